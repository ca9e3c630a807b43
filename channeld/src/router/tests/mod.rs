//! The room as a whole: small networks, where everything can be tried out, and policies that mean harm.

mod exhaustive;
mod hostile;
mod limit;
mod parts;
mod world;
