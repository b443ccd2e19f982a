//! `knot template`: what spaces are made from.

use std::io::Read;
use std::path::Path;

use reqwest::Method;
use serde_json::json;

use super::arguments::Template as Command;
use super::client::{Answer, Body};
use super::context::Context;
use super::failure::Failure;
use super::output::{Cell, clean, details, print, table};
use super::spaces::conflicts;
use crate::api::types::{AppliedTemplate, ApplyOutcome, Template, Templates};

/// The longest template file.
const FILE_LIMIT: u64 = 1024 * 1024;

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
    }
}

async fn apply(context: &Context, file: &Path) -> Result<(), Failure> {
    let client = context.client()?;
    let text = read(file)?;
    let answer: Answer<AppliedTemplate> =
        client.send(Method::PUT, &["templates"], Body::<()>::Yaml(text)).await?;
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
            let revision: String = template.revision.chars().take(12).collect();
            [
                template.name.into(),
                template.platform.into(),
                template.image.into(),
                revision.into(),
                template.description.into(),
            ]
        });
        table(["NAME", "PLATFORM", "IMAGE", "REVISION", "DESCRIPTION"], rows.collect(), colour)
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

/// A size in the largest unit that shows it whole, or with one decimal.
fn bytes(size: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| size >= *unit) {
        Some((name, unit)) if size.is_multiple_of(*unit) => format!("{} {name}", size / unit),
        Some((name, unit)) => format!("{:.1} {name}", size as f64 / *unit as f64),
        None => format!("{size} B"),
    }
}
