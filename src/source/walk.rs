//! The course of one read through its pages: what comes next, when it is over, and when the API leads in circles.
//! Pure: it sees pages and says what they mean.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::page::StopReason;
use crate::rest::paginator::{Evidence, Next, Paginator, PagingError, Position, clue, decide};
use crate::sabotage::{Sabotage, on};

/// An API may send so many empty pages in a row while it says that there is more.
const EMPTY_PAGES_MAX: u32 = 3;

/// Positions of a read that are remembered one by one (8 bytes each). A longer read is watched by [`Turtle`] alone,
/// which needs one position, and up to three times the length of a circle to see it.
const SEEN_MAX: usize = 1 << 20;

/// Why a read cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The API led back to where the read had been.
    #[error("the API leads in a circle: {0}")]
    Loop(String),
    /// A page contradicts itself.
    #[error(transparent)]
    Paging(#[from] PagingError),
}

/// Where one read stands.
#[derive(Debug)]
pub(super) struct Walk {
    paginator: Paginator,
    /// `auto` has not seen its first response yet.
    undecided: bool,
    pages: u64,
    resumed: bool,
    first_page_records: Option<u64>,
    /// Records of the last page that had any: what the next ones are taken to hold.
    step: u64,
    empty_in_a_row: u32,
    previous_records: Option<Bytes>,
    previous_keys: Option<u64>,
    seen: HashSet<u64>,
    turtle: Turtle,
    /// The announced total, in the unit of the paginator.
    total: Option<u64>,
}

impl Walk {
    /// A read that begins, or goes on where an earlier run left it.
    pub(super) fn new(paginator: Paginator, resumed: bool) -> Self {
        Self {
            undecided: matches!(paginator, Paginator::Auto(_)),
            paginator,
            pages: 0,
            resumed,
            first_page_records: None,
            step: 0,
            empty_in_a_row: 0,
            previous_records: None,
            previous_keys: None,
            seen: HashSet::new(),
            turtle: Turtle::default(),
            total: None,
        }
    }

    /// The kind of paging, decided or configured.
    pub(super) fn paginator(&self) -> &Paginator {
        &self.paginator
    }

    /// Whether this is the first page of this run.
    pub(super) fn is_first(&self) -> bool {
        self.pages == 0
    }

    /// The position after `position`, where it can be asked for before the page at `position` has come.
    pub(super) fn plan_after(&self, position: &Position) -> Option<Position> {
        if self.pages == 0 {
            // The first page tells how much there is, and how much of it on one page.
            return None;
        }
        let next = self.paginator.plan_after(position, self.step)?;
        let max_pages = self.paginator.limits().max_pages;
        let past_end = self.total.is_some_and(|total| self.paginator.is_past(&next, total));
        (!past_end && max_pages.is_none()).then_some(next)
    }

    /// What follows from the page at `position`, whose records are `records` as text, and `keys` a hash of their keys.
    pub(super) fn step(
        &mut self,
        position: &Position,
        page: &Evidence<'_>,
        records: Bytes,
        keys: Option<u64>,
    ) -> Result<Next, WalkError> {
        let first = self.pages == 0;
        self.pages += 1;
        if first && !self.resumed {
            self.first_page_records = Some(page.records);
        }
        if page.records > 0 {
            self.step = page.records;
        }
        let page = &Evidence { first_page_records: self.first_page_records, ..page.copied() };
        if self.undecided
            && let Paginator::Auto(options) = &self.paginator
        {
            self.paginator = decide(options, page)?;
            self.undecided = false;
        }
        // `auto` asks for nothing in particular first, which is the first page of whatever it turns out to be.
        let position = &if *position == (Position::First {}) { self.paginator.first() } else { position.clone() };
        self.total = self.paginator.total(page).or(self.total);
        self.check_same_page(page, records, keys)?;
        let next = self.paginator.next(position, page)?;
        if let Next::End(StopReason::NoNext) = next
            && first
            && !self.resumed
        {
            self.check_overlooked(page)?;
        }
        let Next::Page(next_position) = &next else { return Ok(next) };
        self.check_empty_pages(page)?;
        self.check_circle(position, next_position)?;
        Ok(next)
    }

    /// Whether `max_pages` ends the read here.
    pub(super) fn is_full(&self) -> bool {
        self.paginator.limits().max_pages.is_some_and(|max| self.pages >= max)
    }

    fn check_same_page(&mut self, page: &Evidence<'_>, records: Bytes, keys: Option<u64>) -> Result<(), WalkError> {
        if page.records == 0 || on(Sabotage::LoopGuardOff) {
            return Ok(());
        }
        let same_keys = keys.is_some() && self.previous_keys == keys;
        self.previous_keys = keys;
        let records = mark(&records);
        if same_keys || self.previous_records.as_ref() == Some(&records) {
            return Err(WalkError::Loop(
                "a page has the very records of the page before it; if the API repeats its last page behind its end, \
                 say where it ends (`total_path`, `has_more_path` or `stop_on_short_page`)"
                    .to_owned(),
            ));
        }
        self.previous_records = Some(records);
        Ok(())
    }

    /// A wrong path to the next token would make the first page look like the last one.
    fn check_overlooked(&self, page: &Evidence<'_>) -> Result<(), WalkError> {
        match clue(page) {
            Some(clue) if page.records > 0 && clue.paginator != self.paginator => Err(PagingError(format!(
                "`paginator` finds no next page, but the response carries {}; correct `paginator`, or use \
                 {{ type = \"single_page\" }} if one page is all",
                clue.found
            ))
            .into()),
            _ => Ok(()),
        }
    }

    fn check_empty_pages(&mut self, page: &Evidence<'_>) -> Result<(), WalkError> {
        if page.records > 0 {
            self.empty_in_a_row = 0;
            return Ok(());
        }
        self.empty_in_a_row += 1;
        if self.empty_in_a_row >= EMPTY_PAGES_MAX {
            return Err(WalkError::Loop(format!(
                "{EMPTY_PAGES_MAX} empty pages in a row, each with a next one; if an empty page is the end, set \
                 `stop_on_short_page = true`"
            )));
        }
        Ok(())
    }

    fn check_circle(&mut self, position: &Position, next: &Position) -> Result<(), WalkError> {
        // Numbers only grow; tokens and links can be anything.
        if !matches!(next, Position::Token { .. } | Position::Link { .. }) || on(Sabotage::LoopGuardOff) {
            return Ok(());
        }
        let mut known = self.turtle.sees(next) || position == next;
        if self.seen.len() < SEEN_MAX {
            self.seen.insert(hash(position));
            known |= !self.seen.insert(hash(next));
        }
        if known { Err(WalkError::Loop("a next page that this read has been at before".to_owned())) } else { Ok(()) }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What tells the records of a page again: themselves, or where that would hold much memory, their hash and length.
fn mark(records: &Bytes) -> Bytes {
    const HELD_BYTES_MAX: usize = 64 << 10;
    if records.len() <= HELD_BYTES_MAX {
        // A copy: the slice would hold the whole body.
        return Bytes::copy_from_slice(records);
    }
    [hash(records).to_be_bytes(), records.len().to_be_bytes()].concat().into()
}

/// Brent's search for a circle: the read runs on, the turtle waits where it was at a power of two of steps.
#[derive(Debug, Default)]
struct Turtle {
    at: Option<u64>,
    steps: u64,
    power: u64,
}

impl Turtle {
    /// Whether the read has come back to where the turtle waits.
    fn sees(&mut self, position: &Position) -> bool {
        let here = hash(position);
        if self.at == Some(here) {
            return true;
        }
        self.steps += 1;
        if self.steps >= self.power {
            self.at = Some(here);
            self.power = (self.power * 2).max(1);
            self.steps = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::{Value as Json, json};

    use super::*;

    /// Steps through pages given as (body, records); every page has other records unless `same` is set.
    fn walk(paginator: Json, pages: &[(Json, u64)], same: bool) -> Vec<Result<Next, WalkError>> {
        let mut walk = Walk::new(serde_json::from_value(paginator).unwrap(), false);
        let mut position = walk.paginator().first();
        let mut steps = Vec::new();
        for (number, (body, records)) in pages.iter().enumerate() {
            let scalar = |path: &str| body.get(path).cloned();
            let evidence = Evidence {
                headers: &HeaderMap::new(),
                records: *records,
                first_page_records: None,
                scalar: &scalar,
                last_record: &|_| None,
                resolve: &|link| Ok(link.to_owned()),
                link: &|_| Ok(None),
                leaves: &[],
            };
            let text = Bytes::from(if same { "same".to_owned() } else { number.to_string() });
            let step = walk.step(&position, &evidence, text, None);
            if let Ok(Next::Page(next)) = &step {
                position = next.clone();
            }
            steps.push(step);
        }
        steps
    }

    fn cursor() -> Json {
        json!({"type": "cursor", "cursor_path": "c", "cursor_param": "c"})
    }

    fn is_loop(step: &Result<Next, WalkError>) -> bool {
        matches!(step, Err(WalkError::Loop(_)))
    }

    #[test]
    fn the_same_token_again_is_a_circle() {
        let steps = walk(cursor(), &[(json!({"c": "a"}), 5), (json!({"c": "a"}), 5)], false);
        assert!(steps[0].is_ok() && is_loop(&steps[1]), "{steps:?}");
    }

    #[test]
    fn a_longer_circle_is_seen_at_its_first_repeat() {
        let pages = ["a", "b", "c", "b"].map(|token| (json!({"c": token}), 5));
        let steps = walk(cursor(), &pages, false);
        assert!(steps[..3].iter().all(Result::is_ok) && is_loop(&steps[3]), "{steps:?}");
    }

    #[test]
    fn the_turtle_sees_any_circle_with_one_position() {
        for (before, length) in [(0_u32, 1), (0, 7), (5, 3), (100, 33)] {
            let mut turtle = Turtle::default();
            let token = |step: u32| Position::Token {
                token: (if step < before { step } else { before + (step - before) % length }).to_string(),
                number: false,
            };
            let steps = (0..).find(|step| turtle.sees(&token(*step))).unwrap();
            assert!(steps >= before + length && steps <= 4 * (before + length) + 4, "{before} {length}: {steps}");
        }
    }

    #[test]
    fn the_same_records_under_new_tokens_are_a_circle() {
        let steps = walk(cursor(), &[(json!({"c": "a"}), 5), (json!({"c": "b"}), 5)], true);
        assert!(steps[0].is_ok() && is_loop(&steps[1]), "{steps:?}");
    }

    #[test]
    fn three_empty_pages_that_promise_more_are_an_error() {
        let pages: Vec<_> = (0..3).map(|number| (json!({"c": number.to_string()}), 0)).collect();
        let steps = walk(cursor(), &pages, false);
        assert!(steps[..2].iter().all(Result::is_ok) && is_loop(&steps[2]), "{steps:?}");
        let pages: Vec<_> = (0..9).map(|number| (json!({"c": number.to_string()}), number % 3)).collect();
        assert!(walk(cursor(), &pages, false).iter().all(Result::is_ok), "but not with records in between");
    }

    #[test]
    fn a_next_page_that_the_paginator_overlooks_is_an_error_on_the_first_page() {
        let steps = walk(cursor(), &[(json!({"next_page_token": "abc"}), 5)], false);
        assert!(matches!(&steps[0], Err(WalkError::Paging(error)) if error.0.contains("next_page_token")), "{steps:?}");
        let steps = walk(cursor(), &[(json!({"c": null}), 5)], false);
        assert_eq!(steps, [Ok(Next::End(StopReason::NoNext))]);
    }

    #[test]
    fn pages_are_planned_ahead_only_as_far_as_the_total() {
        let mut walk =
            Walk::new(serde_json::from_value(json!({"type": "page_number", "total_path": "n"})).unwrap(), false);
        assert_eq!(walk.plan_after(&Position::Page { page: 1 }), None, "the first page has not come");
        let evidence = Evidence {
            headers: &HeaderMap::new(),
            records: 5,
            first_page_records: None,
            scalar: &|_| Some(json!(3)),
            last_record: &|_| None,
            resolve: &|link| Ok(link.to_owned()),
            link: &|_| Ok(None),
            leaves: &[],
        };
        walk.step(&Position::Page { page: 1 }, &evidence, Bytes::from_static(b"x"), None).unwrap();
        assert_eq!(walk.plan_after(&Position::Page { page: 2 }), Some(Position::Page { page: 3 }));
        assert_eq!(walk.plan_after(&Position::Page { page: 3 }), None);
    }
}
