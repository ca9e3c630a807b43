//! Machines in one thread: a chain that knows what it is told, wires without loss, a clock that is set.

mod flood;
mod spread;
mod world;
