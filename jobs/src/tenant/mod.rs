//! `reckon tenant`: who runs the installation adds organisations to the catalog. No route does: no credential is above
//! tenants.

mod catalog_file;
mod definition;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::ids::TenantId;
use reckon_serving::accounts::{Actor, TENANT_ADD};
use serde::Serialize;
use serde_json::json;

use self::catalog_file::CatalogFile;
use self::definition::{Definition, DefinitionArguments, is_same};
use crate::accounts;
use crate::config::{ConfigError, Settings};
use crate::exit::Exit;
use crate::report::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a tenant to the catalog. Parts that run know it within seconds. Adding it again changes nothing.
    Add(AddArguments),
    /// List the tenants of the catalog.
    List {
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print what the catalog says of a tenant, without its keys.
    Show {
        /// Its name.
        name: TenantId,
    },
}

#[derive(Debug, Args)]
struct AddArguments {
    #[command(flatten)]
    definition: DefinitionArguments,
    /// Print the piece to be added and change nothing, for a catalog that comes from elsewhere.
    #[arg(long)]
    print: bool,
    /// Take a name that was in use before: its numbers, people and keys of then are there again.
    #[arg(long)]
    reuse_name: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a tenant.
    Json,
}

/// Carries the command out.
pub(crate) async fn run(settings: &Settings, arguments: Arguments) -> Result<(), Exit> {
    match arguments.command {
        Command::Add(arguments) => add(settings, arguments).await,
        Command::List { format } => list(&settings.read_catalog()?.tenants, format),
        Command::Show { name } => {
            let catalog = settings.read_catalog()?;
            say(Definition::of(catalog.require(&name)?).piece().map_err(anyhow::Error::from)?.trim_end());
            Ok(())
        }
    }
}

async fn add(settings: &Settings, arguments: AddArguments) -> Result<(), Exit> {
    let AddArguments { definition, print, reuse_name } = arguments;
    let tenant = Tenant::from(definition);
    let file = CatalogFile::open(&settings.catalog)?;
    match file.catalog.tenant(tenant.id.as_str()) {
        Some(known) if !is_same(known, &tenant) => Err(refused(
            settings,
            &format!(
                "tenant {0} is there already and is defined otherwise: `reckon tenant show {0}` prints how. What is \
                 counted for a tenant is changed in the file",
                tenant.id
            ),
        )),
        Some(_) if print => {
            tracing::info!(tenant = %tenant.id, "is there already, as it is defined here: nothing is to be added");
            Ok(())
        }
        Some(_) => confirm(settings, &tenant).await,
        None if print => {
            file.with(&tenant)?;
            say(Definition::of(&tenant).piece().map_err(anyhow::Error::from)?.trim_end());
            Ok(())
        }
        None => put(settings, &file, &tenant, reuse_name).await,
    }
}

/// What is there already is in the audit log, too, whoever put it into the file.
async fn confirm(settings: &Settings, tenant: &Tenant) -> Result<(), Exit> {
    let store = accounts::open(settings).map_err(ConfigError::from)?;
    store.prepare().await?;
    if !store.tenant_actions(&tenant.id).await?.contains(TENANT_ADD) {
        store.tenant_added(&tenant.id, detail(tenant, true)?, &Actor::Operator).await?;
    }
    tracing::info!(tenant = %tenant.id, "is there already, as it is defined here: nothing is changed");
    Ok(())
}

async fn put(settings: &Settings, file: &CatalogFile, tenant: &Tenant, reuse_name: bool) -> Result<(), Exit> {
    let (id, text) = (&tenant.id, file.with(tenant)?);
    // Before the file is changed: while the store is away, nothing happens that it would have to write down.
    let store = accounts::open(settings).map_err(ConfigError::from)?;
    store.prepare().await?;
    if !reuse_name && !store.tenant_actions(id).await?.is_empty() {
        return Err(refused(
            settings,
            &format!(
                "the name {id} was in use before, and its numbers, people and keys of then would be there again: \
                 choose another name, or give `--reuse-name` if it is the same organisation"
            ),
        ));
    }
    file.replace(&text)?;
    store.tenant_added(id, detail(tenant, false)?, &Actor::Operator).await.map_err(|error| {
        let added = "the tenant is in the catalog, and not yet in the audit log: give the same command again";
        Exit::Retryable(anyhow!(error).context(added))
    })?;
    tracing::info!(tenant = %id, "added to the catalog; parts that run know it within seconds");
    say(&next_steps(id));
    Ok(())
}

fn refused(settings: &Settings, why: &str) -> Exit {
    let error = format!("{why}; nothing was changed");
    Exit::Config(ConfigError::Catalog { path: settings.catalog.clone(), error })
}

fn detail(tenant: &Tenant, was_there: bool) -> anyhow::Result<serde_json::Value> {
    let definition = serde_json::to_value(Definition::of(tenant)).context("the entry of the audit log")?;
    Ok(json!({ "definition": definition, "was_there": was_there }))
}

fn next_steps(tenant: &TenantId) -> String {
    format!(
        "Next:
  reckon user add --tenant {tenant} --email ADDRESS --scope read --scope admin
      makes its first admin, who makes keys (`POST /v1/keys`) and invites people (`POST /v1/users`)
  reckon key --scope write
      makes a key of the catalog instead: its lines go below the tenant
  reckon quota --tenant {tenant} --rows-per-minute N
      gives it bounds of its own"
    )
}

/// A tenant in a list.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    definition: Definition<'a>,
    /// How many keys the catalog has of it; the configuration store has others.
    catalog_keys: usize,
}

fn list(tenants: &[Tenant], format: Format) -> Result<(), Exit> {
    let tenants =
        tenants.iter().map(|tenant| Listed { definition: Definition::of(tenant), catalog_keys: tenant.keys.len() });
    match format {
        Format::Json => {
            for tenant in tenants {
                say(&serde_json::to_string(&tenant).map_err(anyhow::Error::from)?);
            }
        }
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_header(["tenant", "time zone", "rollups", "metrics", "keys in the catalog"]);
            for Listed { definition, catalog_keys } in tenants {
                let rollups: Vec<&str> = definition.rollups.iter().map(|rollup| rollup.name()).collect();
                let metrics: Vec<&str> = definition.metrics.iter().map(|metric| metric.name.as_str()).collect();
                table.add_row([
                    definition.id.to_string(),
                    definition.time_zone.name().to_owned(),
                    rollups.join("\n"),
                    metrics.join("\n"),
                    catalog_keys.to_string(),
                ]);
            }
            say(&table.to_string());
        }
    }
    Ok(())
}
