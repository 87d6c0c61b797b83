//! Several operators behind one, and one operator behind several.
//!
//! Invariants
//! * children are called in the order in which the topology added them; all but the last get a clone.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::processor::{Context, Next, Process, Record, Shared};

/// The operators that follow a step; the topology adds to it while it is built.
pub(crate) struct Children<K, V>(Shared<Vec<Next<K, V>>>);

impl<K, V> Clone for Children<K, V> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K, V> Children<K, V> {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Vec::new())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(crate) fn add(&self, next: Next<K, V>) {
        self.0.borrow_mut().push(next);
    }
}

impl<K: Clone, V: Clone> Process<K, V> for Children<K, V> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        let mut children = self.0.borrow_mut();
        let Some((last, first)) = children.split_last_mut() else { return Ok(()) };
        for child in first {
            child.process(ctx, record.clone())?;
        }
        last.process(ctx, record)
    }
}

/// One operator that two streams flow into.
pub(crate) struct SharedNext<K, V>(Shared<Next<K, V>>);

impl<K, V> SharedNext<K, V> {
    pub(crate) fn new(next: Next<K, V>) -> Self {
        Self(Rc::new(RefCell::new(next)))
    }

    pub(crate) fn handle(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<K, V> Process<K, V> for SharedNext<K, V> {
    fn process(&mut self, ctx: &mut Context, record: Record<K, V>) -> Result<()> {
        self.0.borrow_mut().process(ctx, record)
    }
}
