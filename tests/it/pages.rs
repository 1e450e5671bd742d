//! APIs whose pages are given as texts, and answers that wait until a test lets them go.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::response::Response;

use crate::support::{PATIENCE, Seen, respond};

/// In place of a page: the API is down.
pub(crate) const DOWN: &str = "down";

/// A page-number API that serves these texts as its pages, and an empty page after them. They can be changed.
#[derive(Clone, Default)]
pub(crate) struct Pages(Arc<Mutex<Vec<String>>>);

impl Pages {
    pub(crate) fn new<T: ToString>(texts: &[T]) -> Self {
        let pages = Self::default();
        pages.set(texts);
        pages
    }

    pub(crate) fn set<T: ToString>(&self, texts: &[T]) {
        *self.0.lock().unwrap() = texts.iter().map(ToString::to_string).collect();
    }

    pub(crate) fn answer(&self, request: &Seen) -> Response {
        let text = self.0.lock().unwrap().get(page_of(request) - 1).cloned().unwrap_or("[]".to_owned());
        if text == DOWN { respond(500, &[], text) } else { respond(200, &[("content-type", "application/json")], text) }
    }

    pub(crate) fn api(&self) -> impl Fn(&Seen, usize) -> Response + Send + Sync + 'static {
        let pages = self.clone();
        move |request, _| pages.answer(request)
    }
}

/// The page that is asked for, from 1.
pub(crate) fn page_of(request: &Seen) -> usize {
    request.param("page").map_or(1, |page| page.parse().unwrap())
}

/// A source `shop` with a resource `items` on numbered pages; `keys` are further keys of the resource.
pub(crate) fn items(keys: &str) -> String {
    format!(
        "[sources.shop.client]\nbase_url = \"BASE\"\nretry = {{ max_attempts = 1 }}\n\
         paginator = {{ type = \"page_number\" }}\n[sources.shop.resources.items]\n{keys}\n"
    )
}

/// Lets answers go that wait at a [`Barrier`]: one for each call, or all of them once this is dropped.
pub(crate) struct Gate(Sender<()>);

/// Where answers wait.
pub(crate) struct Barrier(Mutex<Receiver<()>>);

pub(crate) fn gate() -> (Gate, Barrier) {
    let (sender, receiver) = channel();
    (Gate(sender), Barrier(Mutex::new(receiver)))
}

impl Gate {
    pub(crate) fn let_one_go(&self) {
        self.0.send(()).unwrap();
    }
}

impl Barrier {
    pub(crate) fn wait(&self) {
        // An error is a gate that was dropped: nobody is to wait any more.
        let _ended = tokio::task::block_in_place(|| self.0.lock().unwrap().recv_timeout(PATIENCE));
    }
}

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}
