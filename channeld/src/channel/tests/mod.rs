//! Two machines joined in memory.
