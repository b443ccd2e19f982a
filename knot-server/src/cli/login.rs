//! `knot login` and `knot logout`: one API token for each server, in the config file.

use std::io::{self, BufRead, IsTerminal, Read};

use reqwest::Method;
use serde_json::json;

use super::address::Address;
use super::arguments::Login;
use super::client::{Answer, Body};
use super::context::{Context, variable};
use super::failure::Failure;
use super::output::clean;
use super::prompt;
use super::ring::Ring;
use crate::api::types::{SignIn, SignedIn, User};

/// The longest name or password that is read.
const INPUT_LIMIT: u64 = 4096;

/// Signs in and stores the token; a token that was given is tried first.
pub(crate) async fn sign_in(context: &Context, login: Login) -> Result<(), Failure> {
    let address = match &login.server {
        Some(url) => Address::parse(url)?,
        None => context.address()?,
    };
    if address.is_exposed() {
        eprintln!(
            "knot: warning: {address} is not encrypted: others on the way can read what you send"
        );
    }
    let (user, token) = match &context.given_token {
        Some(_) if login.user.is_some() || login.password_stdin => {
            return Err(Failure::usage("give either --token, or --user and a password"));
        }
        Some(token) => {
            let client = context.client_of(vec![address.clone()], Some(token.clone()))?;
            let user: Answer<User> = client.get(&["me"]).await?;
            (user.value, token.clone())
        }
        None => with_password(context, &address, login).await?,
    };
    let mut config = context.config.clone();
    config.url = Some(address.to_string());
    config.tokens.insert(address.to_string(), token.clone());
    config.store(context.folder.as_ref())?;
    context.client_of(vec![address.clone()], Some(token))?.learn().await;
    for name in ["KNOT_URL", "KNOT_TOKEN"] {
        if variable(name).is_some() {
            eprintln!("knot: note: {name} is set, and wins over what is stored now");
        }
    }
    let result = json!({ "url": address.to_string(), "user": user });
    context.reader.show(&result, |_| format!("Signed in to {address} as {}\n", clean(&user.name)))
}

/// Forgets the token for the server. It stays good until it is revoked there.
pub(crate) fn sign_out(context: &Context) -> Result<(), Failure> {
    let address = context.address()?.to_string();
    let mut config = context.config.clone();
    let token = config.tokens.remove(&address);
    let had = token.is_some();
    if had {
        config.store(context.folder.as_ref())?;
        Ring::new(Vec::new(), token.as_deref(), context.folder.clone(), false).forget();
    }
    context.reader.show(&json!({ "url": address, "signed_out": had }), |_| match had {
        true => format!(
            "Signed out of {address}; the token itself stays valid until it is deleted there\n"
        ),
        false => format!("Not signed in to {address}: nothing to forget\n"),
    })
}

async fn with_password(
    context: &Context,
    address: &Address,
    login: Login,
) -> Result<(User, String), Failure> {
    let user = match login.user {
        Some(user) => user,
        None if login.password_stdin => {
            return Err(Failure::usage("--password-stdin needs --user NAME"));
        }
        None => ask_user(address)?,
    };
    let password = if login.password_stdin {
        read_password()?
    } else {
        prompt::secret(&format!("Password of {} at {address}: ", clean(&user))).await?
    };
    let client = context.client_of(vec![address.clone()], None)?;
    let request = SignIn { user, password, token_name: Some(token_name()) };
    let answer: Answer<SignedIn> =
        client.send(Method::POST, &["sign-in"], Body::Json(&request)).await?;
    match answer.value.token {
        Some(token) => Ok((answer.value.user, token)),
        None => Err(Failure::not_knot(format!(
            "{address} took the password and gave no token; is it older than this program?"
        ))),
    }
}

fn ask_user(address: &Address) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(prompt::NO_TERMINAL));
    }
    eprint!("User at {address}: ");
    let mut line = String::new();
    let read = io::stdin().lock().take(INPUT_LIMIT).read_line(&mut line);
    read.map_err(|error| Failure::local(format!("the terminal cannot be read: {error}")))?;
    match line.trim() {
        "" => Err(Failure::usage("no user was named")),
        user => Ok(user.to_owned()),
    }
}

/// The first line of standard input.
fn read_password() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin().lock().take(INPUT_LIMIT).read_line(&mut line);
    read.map_err(|error| Failure::local(format!("standard input cannot be read: {error}")))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    match password {
        "" => Err(Failure::usage("standard input holds no password")),
        password => Ok(password.to_owned()),
    }
}

/// What the token is called in the list of the user's tokens.
fn token_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("knot on {host}")
}
