//! A list in pages of `PAGE` items, shared with its copies until one of them writes.

use std::sync::Arc;

/// The list. A copy costs one pointer a page.
#[derive(Clone, Debug)]
pub struct Paged<T, const PAGE: usize> {
    pages: Vec<Arc<Vec<T>>>,
    length: usize,
}

impl<T, const PAGE: usize> Default for Paged<T, PAGE> {
    fn default() -> Paged<T, PAGE> {
        Paged { pages: Vec::new(), length: 0 }
    }
}

impl<T: Clone, const PAGE: usize> Paged<T, PAGE> {
    /// The number of items.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// The item at `at`.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.pages.get(at / PAGE)?.get(at % PAGE)
    }

    /// The item at `at`, to be written: its page is copied if a snapshot holds it.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        Arc::make_mut(self.pages.get_mut(at / PAGE)?).get_mut(at % PAGE)
    }

    /// Appends an item.
    pub fn push(&mut self, item: T) {
        if self.length.is_multiple_of(PAGE) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        let last = self.pages.last_mut().expect("a page was made if the last one was full");
        Arc::make_mut(last).push(item);
        self.length += 1;
    }
}

impl<T: Clone, const PAGE: usize> FromIterator<T> for Paged<T, PAGE> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Paged<T, PAGE> {
        let mut builder = Builder::default();
        items.into_iter().for_each(|item| builder.push(item));
        builder.finish()
    }
}

/// A list while it is filled, faster than by [`Paged::push`]: nobody shares its pages yet.
#[derive(Debug)]
pub struct Builder<T, const PAGE: usize> {
    pages: Vec<Arc<Vec<T>>>,
    last: Vec<T>,
}

impl<T, const PAGE: usize> Default for Builder<T, PAGE> {
    fn default() -> Builder<T, PAGE> {
        Builder { pages: Vec::new(), last: Vec::new() }
    }
}

impl<T, const PAGE: usize> Builder<T, PAGE> {
    /// Appends an item.
    pub fn push(&mut self, item: T) {
        if self.last.capacity() == 0 {
            self.last.reserve_exact(PAGE);
        }
        self.last.push(item);
        if self.last.len() == PAGE {
            self.pages.push(Arc::new(std::mem::take(&mut self.last)));
        }
    }

    /// The list.
    pub fn finish(mut self) -> Paged<T, PAGE> {
        let length = self.pages.len() * PAGE + self.last.len();
        if !self.last.is_empty() {
            self.pages.push(Arc::new(self.last));
        }
        Paged { pages: self.pages, length }
    }
}
