//! What threads share: atomics of the core library and locks of `spin`, or those of a model checker under `cfg(loom)`.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
#[cfg(not(loom))]
pub(crate) use spin::{Mutex, Once};

#[cfg(loom)]
pub(crate) use model::{AtomicBool, AtomicU32, Mutex, Once, Ordering};

#[cfg(loom)]
mod model {
    extern crate std;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::OnceLock;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    /// The value itself is kept where the checker does not look; what threads learn of it goes by a flag that is
    /// written and read with the orderings of `spin::Once`.
    #[derive(Debug)]
    pub(crate) struct Once<T> {
        completed: AtomicBool,
        value: OnceLock<T>,
    }

    impl<T> Once<T> {
        pub(crate) fn new() -> Self {
            Self { completed: AtomicBool::new(false), value: OnceLock::new() }
        }

        pub(crate) fn call_once(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            self.completed.store(true, Ordering::Release);
            value
        }

        pub(crate) fn is_completed(&self) -> bool {
            self.completed.load(Ordering::Acquire)
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.is_completed().then(|| self.value.get()).flatten()
        }

        pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
            self.value.get_mut()
        }
    }
}
