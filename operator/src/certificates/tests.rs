//! The three Secrets through their lives, with real certificates and real handshakes.

mod cases;
mod handshake;
mod lives;
mod planned;
mod world;
