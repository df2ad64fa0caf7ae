//! The service on a real port with the generated client.
