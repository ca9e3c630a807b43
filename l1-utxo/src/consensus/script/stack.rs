//! The stack: elements that borrow from scripts and witnesses, or hold a short result in place.
//!
//! No opcode concatenates, so whatever a script computes (numbers, truth values, hashes) fits into 32 bytes: nothing on the
//! stack needs memory of its own.

use super::{ScriptError, number};

/// The longest result of an opcode: a SHA-256.
const INLINE_SIZE: usize = 32;

/// One element.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'s> {
    Borrowed(&'s [u8]),
    Inline { bytes: [u8; INLINE_SIZE], length: u8 },
}

impl<'s> Item<'s> {
    /// A copy of at most 32 bytes.
    pub(super) fn inline(result: &[u8]) -> Self {
        let mut bytes = [0; INLINE_SIZE];
        bytes[..result.len()].copy_from_slice(result);
        // The line above panics beyond 32 bytes, which no result has.
        Self::Inline { bytes, length: result.len() as u8 }
    }

    /// What `OP_TRUE` and `OP_FALSE` push.
    pub(super) fn bool(value: bool) -> Self {
        Self::Borrowed(if value { &[1] } else { &[] })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Inline { bytes, length } => &bytes[..usize::from(*length)],
        }
    }

    /// False for zero of any length, negative zero included.
    pub(super) fn is_true(&self) -> bool {
        match self.bytes().split_last() {
            None => false,
            Some((last, rest)) => rest.iter().any(|byte| *byte != 0) || last & 0x7f != 0,
        }
    }
}

/// The elements, the last one on top. A depth counts from 1 at the top; what is not there is an error.
#[derive(Debug, Clone, Default)]
pub(super) struct Stack<'s>(Vec<Item<'s>>);

impl<'s> Stack<'s> {
    /// Room for what the usual scripts need, so that they allocate once.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(8))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn items(&self) -> &[Item<'s>] {
        &self.0
    }

    pub(super) fn push(&mut self, item: Item<'s>) {
        self.0.push(item);
    }

    pub(super) fn push_bool(&mut self, value: bool) {
        self.0.push(Item::bool(value));
    }

    /// Fails if there are fewer than `count` elements.
    pub(super) fn require(&self, count: usize) -> Result<(), ScriptError> {
        if self.0.len() < count { Err(ScriptError::InvalidStackOperation) } else { Ok(()) }
    }

    fn index(&self, depth: usize) -> Result<usize, ScriptError> {
        self.0.len().checked_sub(depth).ok_or(ScriptError::InvalidStackOperation)
    }

    pub(super) fn peek(&self, depth: usize) -> Result<&Item<'s>, ScriptError> {
        Ok(&self.0[self.index(depth)?])
    }

    pub(super) fn pop(&mut self) -> Result<Item<'s>, ScriptError> {
        self.0.pop().ok_or(ScriptError::InvalidStackOperation)
    }

    /// Removes the element at `depth`, from 1.
    pub(super) fn remove(&mut self, depth: usize) -> Result<Item<'s>, ScriptError> {
        let index = self.index(depth)?;
        Ok(self.0.remove(index))
    }

    /// Removes the `count` elements on top.
    pub(super) fn drop(&mut self, count: usize) -> Result<(), ScriptError> {
        let index = self.index(count)?;
        self.0.truncate(index);
        Ok(())
    }

    /// Pushes copies of `count` elements, the deepest of them at `depth`.
    pub(super) fn copy(&mut self, depth: usize, count: usize) -> Result<(), ScriptError> {
        let first = self.index(depth)?;
        self.0.extend_from_within(first..first + count);
        Ok(())
    }

    /// Turns the upper `depth` elements so that the deepest `count` of them come out on top.
    pub(super) fn rotate(&mut self, depth: usize, count: usize) -> Result<(), ScriptError> {
        let first = self.index(depth)?;
        self.0[first..].rotate_left(count);
        Ok(())
    }

    /// Inserts a copy of the top below the second element.
    pub(super) fn tuck(&mut self) -> Result<(), ScriptError> {
        let index = self.index(2)?;
        let top = *self.peek(1)?;
        self.0.insert(index, top);
        Ok(())
    }

    /// The element at `depth`, read as a number of at most 4 bytes.
    pub(super) fn number(&self, depth: usize, minimal: bool) -> Result<i64, ScriptError> {
        number::decode(self.peek(depth)?.bytes(), minimal, number::DEFAULT_SIZE)
    }

    /// Fails unless there is a true element on top.
    pub(super) fn require_true(&self) -> Result<(), ScriptError> {
        match self.0.last() {
            Some(top) if top.is_true() => Ok(()),
            _ => Err(ScriptError::EvalFalse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_false_whatever_its_length_and_sign() {
        for zero in [&[][..], &[0], &[0x80], &[0, 0], &[0, 0x80]] {
            assert!(!Item::Borrowed(zero).is_true(), "{zero:02x?}");
        }
        for other in [&[1][..], &[0x81], &[0x80, 0], &[0, 1], &[0x80, 0x80]] {
            assert!(Item::Borrowed(other).is_true(), "{other:02x?}");
        }
    }

    #[test]
    fn a_missing_element_is_an_error() {
        let mut stack = Stack::new();
        stack.push_bool(true);
        assert!(
            stack.peek(2).is_err() && stack.remove(2).is_err() && stack.drop(2).is_err() && stack.copy(2, 1).is_err()
        );
        assert!(stack.rotate(2, 1).is_err() && stack.tuck().is_err() && stack.number(2, true).is_err());
        assert_eq!(stack.number(1, true), Ok(1));
        assert!(stack.pop().is_ok() && stack.pop().is_err());
        assert_eq!(stack.require_true(), Err(ScriptError::EvalFalse));
    }
}
