pub mod secret;
pub mod template;
pub mod units;
