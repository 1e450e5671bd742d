pub mod practice;
pub mod secret;
pub mod template;
pub mod units;
