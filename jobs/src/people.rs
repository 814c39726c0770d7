//! `reckon user`, `reckon quota`: what only who runs the installation may do.

use std::io::{IsTerminal, Read};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use reckon_schemas::access::Scope;
use reckon_schemas::ids::TenantId;
use reckon_serving::accounts::{Actor, Quota};

use crate::accounts;
use crate::cli::ScopeName;
use crate::config::{ConfigError, Settings};
use crate::exit::Exit;

/// More than any password has, so that a file given by mistake is not read to its end.
const INPUT_BYTES_MAX: u64 = 1024;

#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make somebody a member of a tenant, or give them another password. It is asked for, or read from standard input.
    Add {
        /// The tenant.
        #[arg(long)]
        tenant: TenantId,
        /// The person's address.
        #[arg(long)]
        email: String,
        /// What they may do.
        #[arg(long, value_enum, required = true)]
        scope: Vec<ScopeName>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArguments {
    /// The tenant.
    #[arg(long)]
    tenant: TenantId,
    /// Requests to a serving node per second; as configured for all if absent.
    #[arg(long)]
    queries_per_second: Option<u32>,
    /// Live connections to a serving node; as configured for all if absent.
    #[arg(long)]
    live_clients: Option<u32>,
    /// Rows that its questions may make the stores read in a minute; as configured for all if absent.
    #[arg(long)]
    rows_per_minute: Option<u64>,
    /// Events to a collector per second; as the catalog says if absent.
    #[arg(long)]
    events_per_second: Option<u32>,
}

/// Makes a member.
pub(crate) async fn user(settings: &Settings, arguments: UserArguments) -> Result<(), Exit> {
    let UserCommand::Add { tenant, email, scope } = arguments.command;
    settings.read_catalog()?.require(&tenant)?;
    let accounts = accounts::open(settings).map_err(ConfigError::from)?;
    let password = password()?;
    let scopes: Vec<Scope> = scope.into_iter().map(Scope::from).collect();
    accounts.prepare().await?;
    accounts.set_user(&tenant, &email, password, &scopes).await?;
    tracing::info!(%tenant, email, "may sign in now");
    Ok(())
}

/// Bounds a tenant.
pub(crate) async fn quota(settings: &Settings, arguments: QuotaArguments) -> Result<(), Exit> {
    let QuotaArguments { tenant, queries_per_second, live_clients, rows_per_minute, events_per_second } = arguments;
    settings.read_catalog()?.require(&tenant)?;
    let accounts = accounts::open(settings).map_err(ConfigError::from)?;
    let quota = Quota {
        queries_per_second_max: queries_per_second,
        live_clients_max: live_clients,
        rows_per_minute_max: rows_per_minute,
        events_per_second_max: events_per_second,
    };
    accounts.prepare().await?;
    accounts.set_quota(&tenant, quota, &Actor::Operator).await?;
    tracing::info!(%tenant, ?quota, "holds within seconds");
    Ok(())
}

/// From the terminal, unseen and twice, or from standard input up to the end of its first line.
fn password() -> anyhow::Result<String> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        let first = rpassword::prompt_password("Password: ").context("no password")?;
        let second = rpassword::prompt_password("Once more: ").context("no password")?;
        ensure!(first == second, "these are two different passwords: nothing was changed");
        return Ok(first);
    }
    let mut text = String::new();
    input.by_ref().take(INPUT_BYTES_MAX).read_to_string(&mut text).context("the password on standard input")?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
