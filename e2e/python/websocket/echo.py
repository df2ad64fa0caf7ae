"""A WebSocket server that sends every message back, with permessage-deflate.

Prints "listening on ADDRESS" when its port on the loopback interface is open.
"""

import asyncio
import logging

from websockets.asyncio.server import ServerConnection, serve

# The largest message of the suite has 16 MiB.
LARGEST = 1 << 26


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    # Most cases break the protocol on purpose, and every one of them would be an error here.
    logger = logging.getLogger("echo")
    logger.setLevel(logging.CRITICAL + 1)
    server = await serve(
        echo, "127.0.0.1", 0, max_size=LARGEST, ping_interval=None, logger=logger
    )
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


asyncio.run(main())
