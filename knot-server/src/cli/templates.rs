//! `knot template`: what spaces are made from.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::client::{Answer, Body};
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, Colour, bytes, clean, details, print, table};
use super::spaces::conflicts;
use super::time::{age, parse_duration};
use super::update;
use crate::api::types::{
    AppliedTemplate, ApplyOutcome, FieldDifference, RetireTemplate, RevertTemplate, Template,
    TemplateDifference, TemplateRevisions, Templates, short,
};

/// The longest template file.
const FILE_LIMIT: u64 = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or change a template from a file
    Apply {
        /// The template file (YAML); - for standard input
        file: PathBuf,
    },
    /// List templates
    #[command(visible_alias = "list")]
    Ls,
    /// Show a template
    Show {
        /// The template's name or id
        name: String,
        /// Write the template file instead, for `apply`
        #[arg(long, conflicts_with = "json")]
        yaml: bool,
    },
    /// Delete a template that no space is made from
    #[command(visible_alias = "rm")]
    Delete {
        /// The template's name or id
        name: String,
    },
    /// List what was changed in a template, by whom and when
    History {
        /// The template's name or id
        name: String,
        /// How many revisions to list
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Show what differs between two revisions of a template
    Diff {
        /// The template's name or id
        name: String,
        /// The earlier revision; what the later was made on if left out
        from: Option<String>,
        /// The later revision; how it is now if left out
        to: Option<String>,
    },
    /// Make a template what it was in an earlier revision
    Revert {
        /// The template's name or id
        name: String,
        /// The revision, or its first digits
        revision: String,
    },
    /// Retire a template: its spaces go on, and no new ones are made
    Retire {
        /// The template's name or id
        name: String,
        /// Take it into use again
        #[arg(long)]
        undo: bool,
    },
    /// List the running spaces that a restart brings a newer revision to
    Outdated {
        /// The template's name or id
        name: String,
    },
    /// Restart the outdated running spaces of a template, some at a time
    Update {
        /// The template's name or id
        name: String,
        /// How many to restart at a time
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
        wave: u16,
        /// How long each may take, such as 30s, 5m or 1h30m
        #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
        timeout: Duration,
    },
}

/// Runs one command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply { file } => apply(context, &file).await,
        Command::Ls => list(context).await,
        Command::Show { name, yaml: true } => {
            let text = context.client()?.text(&["templates", &name, "file"]).await?;
            print(&text)
        }
        Command::Show { name, yaml: false } => show(context, &name).await,
        Command::Delete { name } => delete(context, &name).await,
        Command::History { name, limit } => history(context, &name, limit).await,
        Command::Diff { name, from, to } => diff(context, &name, from, to).await,
        Command::Revert { name, revision } => revert(context, &name, revision).await,
        Command::Retire { name, undo } => retire(context, &name, !undo).await,
        Command::Outdated { name } => update::outdated(context, &name).await,
        Command::Update { name, wave, timeout } => {
            update::run(context, &name, usize::from(wave), timeout).await
        }
    }
}

async fn history(context: &Context, name: &str, limit: usize) -> Result<(), Failure> {
    let limit = limit.to_string();
    let query = [("limit", limit.as_str())];
    let answer: Answer<TemplateRevisions> =
        context.client()?.query(Method::GET, &["templates", name, "revisions"], &query).await?;
    context.reader.show(&answer.raw, |colour| {
        let rows = answer.value.revisions.into_iter().map(|revision| {
            let used = revision.used_for_invalid.then_some("used until the merge is settled");
            [
                short(&revision.id).into(),
                age(&revision.time, answer.now).into(),
                revision.author.into(),
                used.map_or_else(|| revision.fields.join(", "), str::to_owned).into(),
            ]
        });
        table(["REVISION", "AGE", "BY", "FIELDS"], rows.collect(), colour)
    })
}

async fn diff(
    context: &Context,
    name: &str,
    from: Option<String>,
    to: Option<String>,
) -> Result<(), Failure> {
    let query = [("from", from), ("to", to)];
    let query: Vec<(&str, &str)> =
        query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let answer: Answer<TemplateDifference> =
        context.client()?.query(Method::GET, &["templates", name, "difference"], &query).await?;
    context.reader.show(&answer.raw, |_| {
        if answer.value.fields.is_empty() {
            return "Nothing differs\n".to_owned();
        }
        answer.value.fields.iter().map(difference).collect()
    })
}

/// One field that differs, as a few lines.
fn difference(one: &FieldDifference) -> String {
    let mut text = format!("{}:\n", clean(&one.field));
    for line in one.lines() {
        text.push_str(&format!("  {}\n", clean(&line)));
    }
    text
}

async fn revert(context: &Context, name: &str, revision: String) -> Result<(), Failure> {
    let wanted = RevertTemplate { revision };
    let path = ["templates", name, "revert"];
    let answer: Answer<AppliedTemplate> =
        context.client()?.send(Method::POST, &path, Body::Json(&wanted)).await?;
    tell(context, &answer)
}

async fn retire(context: &Context, name: &str, retired: bool) -> Result<(), Failure> {
    let wanted = RetireTemplate { retired };
    let path = ["templates", name, "retired"];
    let answer: Answer<AppliedTemplate> =
        context.client()?.send(Method::PUT, &path, Body::Json(&wanted)).await?;
    context.reader.show(&answer.raw, |_| {
        let name = clean(&answer.value.template.name);
        match retired {
            true => format!("{name} is retired: its spaces go on, and no new ones are made\n"),
            false => format!("{name} is in use again\n"),
        }
    })
}

async fn apply(context: &Context, file: &Path) -> Result<(), Failure> {
    let client = context.client()?;
    let text = read(file)?;
    let answer: Answer<AppliedTemplate> =
        client.send(Method::PUT, &["templates"], Body::<()>::Yaml(text)).await?;
    tell(context, &answer)
}

/// Says what a write came to.
fn tell(context: &Context, answer: &Answer<AppliedTemplate>) -> Result<(), Failure> {
    context.reader.show(&answer.raw, |_| {
        let template = &answer.value.template;
        let (name, revision) = (clean(&template.name), clean(&template.revision));
        match answer.value.outcome {
            ApplyOutcome::Created => format!("{name} is created, revision {revision}\n"),
            ApplyOutcome::Changed => {
                format!("{name} is changed, revision {revision}; running spaces take it at their next start\n")
            }
            ApplyOutcome::Unchanged => format!("{name} was like that already, revision {revision}\n"),
        }
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    let shown = if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::InvalidData => {
            Failure::local(format!("{shown} is no text, so it is no template file"))
        }
        _ => Failure::local(format!("{shown} cannot be read: {}", super::client::cause(&error))),
    };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_LIMIT + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text))
    };
    read.map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(Failure::local(format!(
            "{shown} is longer than 1 MiB, so it is no template file"
        )));
    }
    Ok(text)
}

async fn list(context: &Context) -> Result<(), Failure> {
    let answer: Answer<Templates> = context.client()?.get(&["templates"]).await?;
    context.reader.show(&answer.raw, |colour| {
        if answer.value.templates.is_empty() {
            return "There are no templates; `knot template apply FILE` makes one\n".to_owned();
        }
        let rows = answer.value.templates.into_iter().map(|template| {
            let note = match (&template.invalid, template.retired) {
                (Some(_), _) => Cell::coloured("conflicting edits are invalid", Some(Colour::Bad)),
                (None, true) => "retired".into(),
                (None, false) => "".into(),
            };
            [
                template.name.into(),
                template.platform.into(),
                template.image.into(),
                short(&template.revision).into(),
                note,
                template.description.into(),
            ]
        });
        table(
            ["NAME", "PLATFORM", "IMAGE", "REVISION", "NOTE", "DESCRIPTION"],
            rows.collect(),
            colour,
        )
    })
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let answer: Answer<Template> = context.client()?.get(&["templates", name]).await?;
    context.reader.show(&answer.raw, |colour| {
        let template = answer.value;
        let command =
            shlex::try_join(template.command.iter().map(String::as_str)).unwrap_or_default();
        let mut pairs: Vec<(&str, Cell)> = vec![
            ("Name", template.name.into()),
            ("Description", template.description.into()),
            ("Platform", template.platform.into()),
            ("Image", template.image.into()),
            ("Command", command.into()),
        ];
        pairs.extend(
            template
                .environment
                .into_iter()
                .map(|(name, value)| ("Variable", format!("{name}={value}").into())),
        );
        pairs.extend(
            template
                .volumes
                .into_iter()
                .map(|(name, path)| ("Volume", format!("{name} at {path}").into())),
        );
        pairs.extend([
            ("Network", template.network.unwrap_or_default().into()),
            ("Memory", template.memory.map(bytes).unwrap_or_default().into()),
            ("Processors", template.cpus.map(|cpus| cpus.to_string()).unwrap_or_default().into()),
            ("Revision", template.revision.into()),
            ("Id", template.id.into()),
        ]);
        let retired = if template.retired { "yes: no new spaces are made" } else { "" };
        pairs.extend([
            ("Retired", retired.into()),
            ("Groups", template.groups.join(", ").into()),
            ("Zones", template.zones.join(", ").into()),
        ]);
        pairs.extend(template.parameters.into_iter().map(|one| {
            let default = one.default.map(|value| format!(", {value} if left out"));
            let required = if one.required && default.is_none() { ", required" } else { "" };
            let what = if one.description.is_empty() { "" } else { ": " };
            let text = format!(
                "{} ({}{}{required}){what}{}",
                one.name,
                one.kind,
                default.unwrap_or_default(),
                one.description
            );
            ("Parameter", text.into())
        }));
        if let Some(invalid) = template.invalid {
            let used = match invalid.used {
                Some(used) => {
                    format!("starts use revision {} until a file is applied", short(&used))
                }
                None => "nothing can be started from it until a file is applied".to_owned(),
            };
            let problems = invalid.problems.iter().map(ToString::to_string);
            let invalid =
                problems.chain([used]).map(|line| Cell::coloured(line, Some(Colour::Bad)));
            pairs.extend(invalid.map(|line| ("Invalid", line)));
        }
        pairs.extend(conflicts(&template.conflicts));
        details(pairs, colour)
    })
}

async fn delete(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client()?;
    let template: Answer<Template> = client.get(&["templates", name]).await?;
    let (id, name) = (template.value.id, template.value.name);
    client.delete(&["templates", &id]).await?;
    let result = json!({ "id": id, "name": name, "state": "gone" });
    context.reader.show(&result, |_| format!("{} is deleted\n", clean(&name)))
}
