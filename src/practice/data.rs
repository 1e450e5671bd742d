//! What the practice API has to offer: its resources, how many rows each has, and row number `index` of any of them.
//! A row depends on the seed, its index and its version alone, so a page costs its own rows and nothing else.

use serde_json::{Value, json};

use super::random::Random;
use super::{helpdesk, shop};

/// One data set of the practice API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// People who buy. Pages by number.
    Customers,
    /// What they bought. Pages by an opaque cursor.
    Orders,
    /// What they clicked: no key, append only. Pages by `Link` header.
    Events,
    /// The catalogue. Pages by offset.
    Products,
    /// What they complained about. The next page's URL is in the body.
    Tickets,
    /// Where they live: one page.
    Regions,
    /// Help articles, found by `POST`. The cursor travels in both bodies.
    Search,
    /// Who did what; its key has two columns. The next cursor is in a response header.
    Audit,
    /// Notes behind a bearer token. The next page starts after the last record's `id`.
    Notes,
}

impl Resource {
    /// Every resource, in the order of the index page.
    pub const ALL: [Resource; 9] = [
        Resource::Customers,
        Resource::Orders,
        Resource::Events,
        Resource::Products,
        Resource::Tickets,
        Resource::Regions,
        Resource::Search,
        Resource::Audit,
        Resource::Notes,
    ];

    /// The name that the shipped configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Customers => "customers",
            Resource::Orders => "orders",
            Resource::Events => "events",
            Resource::Products => "products",
            Resource::Tickets => "tickets",
            Resource::Regions => "regions",
            Resource::Search => "search",
            Resource::Audit => "audit",
            Resource::Notes => "notes",
        }
    }

    /// The columns that identify a row; none for `events`.
    #[must_use]
    pub const fn key(self) -> &'static [&'static str] {
        match self {
            Resource::Events => &[],
            Resource::Products => &["sku"],
            Resource::Regions => &["code"],
            Resource::Audit => &["stream", "seq"],
            _ => &["id"],
        }
    }

    pub(super) const fn path(self) -> &'static str {
        match self {
            Resource::Customers => "/v1/customers",
            Resource::Orders => "/v1/orders",
            Resource::Events => "/v1/events",
            Resource::Products => "/v1/products",
            Resource::Tickets => "/v1/tickets",
            Resource::Regions => "/v1/regions",
            Resource::Search => "/v1/search",
            Resource::Audit => "/v1/audit",
            Resource::Notes => "/v1/private/notes",
        }
    }

    /// One line for the index: how to get from page to page.
    pub(super) const fn paging(self) -> &'static str {
        match self {
            Resource::Customers => "page_number: ?page=1&per_page=50, number of pages in meta.total_pages",
            Resource::Orders => "cursor: ?cursor=…&limit=100, next one in next_cursor",
            Resource::Events => "header_link: ?page=1&per_page=100, next URL in the Link header",
            Resource::Products => "offset: ?offset=0&limit=50, number of rows in total",
            Resource::Tickets => "json_link: next URL in next, relative",
            Resource::Regions => "single_page",
            Resource::Search => "cursor: POST {\"query\": \"…\", \"cursor\": null}, next one in cursor",
            Resource::Audit => "header_cursor: ?cursor=…&limit=100, next one in the X-Next-Cursor header",
            Resource::Notes => "cursor: ?starting_after=ID&limit=20 while has_more; needs Authorization: Bearer",
        }
    }
}

/// How many rows each data set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of `customers`.
    pub customers: u32,
    /// Rows of `orders`.
    pub orders: u32,
    /// Rows of `events`.
    pub events: u32,
    /// Rows of `products`.
    pub products: u32,
    /// Rows of `tickets`; the changing record is one of them.
    pub tickets: u32,
    /// Rows of `search`.
    pub search: u32,
    /// Rows of `audit`.
    pub audit: u32,
    /// Rows of `private/notes`.
    pub notes: u32,
}

impl Size {
    /// For tests and `demo --fast`: 3,022 rows in 57 pages, besides the notes.
    pub const FAST: Size = Size {
        customers: 420,
        orders: 730,
        events: 850,
        products: 240,
        tickets: 260,
        search: 210,
        audit: 300,
        notes: 75,
    };

    /// For `demo` and `practice`: 39,977 rows in 526 pages, besides the notes. The last page of `products` is full.
    pub const DEMO: Size = Size {
        customers: 4_150,
        orders: 14_600,
        events: 12_345,
        products: 2_000,
        tickets: 1_250,
        search: 600,
        audit: 5_020,
        notes: 75,
    };

    /// How many rows `resource` has; `regions` is the same at every size.
    #[must_use]
    pub const fn rows(&self, resource: Resource) -> u32 {
        match resource {
            Resource::Customers => self.customers,
            Resource::Orders => self.orders,
            Resource::Events => self.events,
            Resource::Products => self.products,
            Resource::Tickets => self.tickets,
            Resource::Regions => shop::REGIONS.len() as u32,
            Resource::Search => self.search,
            Resource::Audit => self.audit,
            Resource::Notes => self.notes,
        }
    }
}

/// Row `index` of `resource`. Only tickets have a version other than 1.
pub(super) fn row(resource: Resource, seed: u64, size: &Size, index: u64, version: u8) -> Value {
    let random = &mut Random::new(seed, resource as u64, index);
    match resource {
        Resource::Customers => shop::customer(random, index),
        Resource::Orders => shop::order(random, index, size),
        Resource::Products => shop::product(random, index),
        Resource::Regions => shop::region(index),
        // Every fiftieth event repeats the one before it to the last byte: both are real, a copy keeps both.
        Resource::Events if index % 50 == 49 => row(resource, seed, size, index - 1, version),
        Resource::Events => helpdesk::event(random, index),
        Resource::Tickets => helpdesk::ticket(random, index, size, version),
        Resource::Search => helpdesk::article(random, index),
        Resource::Audit => helpdesk::audit_entry(random, index),
        Resource::Notes => helpdesk::note(random, index),
    }
}

/// The key of a row as one text: its key columns joined by `|`, as in `42` or `billing|17`.
pub(super) fn key_text(resource: Resource, row: &Value) -> String {
    let columns = resource.key().iter().map(|column| match &row[*column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    columns.collect::<Vec<_>>().join("|")
}

/// `secs` after the first second of 2024, as RFC 3339.
pub(super) fn time(secs: u64) -> Value {
    const START: i64 = 1_704_067_200;
    let second = START + i64::try_from(secs).expect("practice rows are counted in u32");
    json!(jiff::Timestamp::from_second(second).expect("practice data ends long before the year 9999").to_string())
}
