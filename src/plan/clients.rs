//! The clients of the sources and their budgets: made when they are first needed, and kept for as long as the
//! configuration says the same about them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::destination::{Db, StoredBudget};
use crate::rest::ClientOptions;
use crate::rest::budget::{Budget, BudgetState, RateLimit, SaveBudget};
use crate::rest::client::Client;
use crate::rest::error::ClientError;

use super::token_file::TokenFile;

/// Clients and their budgets, to be closed when nothing runs any more.
#[derive(Debug, Default)]
pub struct Clients {
    clients: HashMap<Arc<str>, (ClientOptions, Arc<Client>)>,
    budgets: HashMap<String, (Option<RateLimit>, Arc<Budget>)>,
}

impl Clients {
    /// The client of a source, with its budget. `saved` are the budgets as they are stored.
    pub(super) fn of(
        &mut self,
        source: &Arc<str>,
        options: &ClientOptions,
        db: &Arc<Db>,
        saved: &[StoredBudget],
    ) -> Result<Arc<Client>, ClientError> {
        if let Some((known, client)) = self.clients.get(source)
            && known == options
        {
            return Ok(Arc::clone(client));
        }
        let budget = self.budget(source, options.rate_limit.as_ref(), db, saved);
        let tokens = TokenFile::new(db.beside(&format!("{source}.token")));
        let client = Arc::new(Client::new(source, options, budget, tokens.into_store())?);
        self.clients.insert(Arc::clone(source), (options.clone(), Arc::clone(&client)));
        Ok(client)
    }

    fn budget(
        &mut self,
        source: &Arc<str>,
        limit: Option<&RateLimit>,
        db: &Arc<Db>,
        saved: &[StoredBudget],
    ) -> Arc<Budget> {
        let name = RateLimit::budget_of(limit, source);
        if let Some((known, budget)) = self.budgets.get(name)
            && known.as_ref() == limit
        {
            return Arc::clone(budget);
        }
        let state = saved.iter().find(|saved| saved.budget == name);
        let state = state.map(|saved| BudgetState { tat_ms: saved.tat_ms, not_before_ms: saved.not_before_ms });
        let budget = Budget::new(name, limit, state, save_into(db));
        self.budgets.insert(name.to_owned(), (limit.cloned(), Arc::clone(&budget)));
        budget
    }

    /// Whether the client of a source, if there is one, is what these options say.
    #[must_use]
    pub fn is_current(&self, source: &str, options: &ClientOptions) -> bool {
        self.clients.get(source).is_none_or(|(known, _)| known == options)
    }

    /// The budgets that were needed so far.
    pub fn budgets(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.budgets.values().map(|(_, budget)| budget)
    }

    /// Closes and forgets the clients of which this is false; nobody may use them any more.
    ///
    /// # Errors
    /// When a new refresh token or what is left of a budget cannot be stored.
    pub async fn retain(&mut self, is_kept: impl Fn(&str, &ClientOptions) -> bool) -> Result<(), String> {
        let gone: Vec<Arc<str>> = self
            .clients
            .iter()
            .filter(|(source, (options, _))| !is_kept(source, options))
            .map(|(source, _)| Arc::clone(source))
            .collect();
        for source in gone {
            if let Some((_, client)) = self.clients.remove(&source) {
                client.close().await?;
            }
        }
        // A budget without clients is stored, and made anew from there when it is needed again.
        let limits: Vec<(Arc<str>, Option<RateLimit>)> = self
            .clients
            .iter()
            .map(|(source, (options, _))| (Arc::clone(source), options.rate_limit.clone()))
            .collect();
        let is_used = |name: &str| {
            limits
                .iter()
                .any(|(source, limit)| limit.as_ref().and_then(|l| l.budget.as_deref()).unwrap_or(source) == name)
        };
        let unused: Vec<String> = self.budgets.keys().filter(|name| !is_used(name)).cloned().collect();
        for name in unused {
            if let Some((_, budget)) = self.budgets.remove(&name) {
                budget.close().await?;
            }
        }
        Ok(())
    }

    /// Waits for renewals of credentials that are under way, so that no new refresh token is lost.
    ///
    /// # Errors
    /// When a new refresh token cannot be stored.
    pub async fn close(&self) -> Result<(), String> {
        for (_, client) in self.clients.values() {
            client.close().await?;
        }
        Ok(())
    }

    /// Stores exactly what is left of each budget.
    ///
    /// # Errors
    /// When one cannot be stored; it was stored with a reserve before, so the API is never asked too often.
    pub async fn close_budgets(&self) -> Result<(), String> {
        for budget in self.budgets() {
            budget.close().await?;
        }
        Ok(())
    }
}

fn save_into(db: &Arc<Db>) -> SaveBudget {
    let db = Arc::clone(db);
    Arc::new(move |budget, state| {
        let db = Arc::clone(&db);
        Box::pin(async move {
            let stored = StoredBudget { budget, tat_ms: state.tat_ms, not_before_ms: state.not_before_ms };
            db.save_budget(stored).await.map_err(|error| error.to_string())
        })
    })
}
