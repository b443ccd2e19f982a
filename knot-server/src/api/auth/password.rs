//! Passwords, as argon2id hashes. Hashing is slow on purpose: it runs on blocking threads, a few at a
//! time, and a bounded number of sign-ins waits for them.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _},
};
use tokio::sync::Semaphore;

/// The longest password, in bytes.
pub(crate) const MAX_PASSWORD: usize = 1_024;
/// The shortest password, in characters.
pub(crate) const MIN_PASSWORD: usize = 8;
/// How many are hashed at a time: each takes 19 MiB and a whole core.
const AT_ONCE: usize = 2;
/// How many may wait.
const WAITING: usize = 64;

/// A password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Too many are waiting already.
    #[error("too many sign-ins at once: try again in a few seconds")]
    Busy,
    /// It breaks the rules for passwords.
    #[error("a password has {MIN_PASSWORD} characters at least and {MAX_PASSWORD} bytes at most")]
    Length,
    /// The hash function failed.
    #[error("the password could not be hashed: {0}")]
    Failed(String),
}

/// Hashes and checks passwords.
#[derive(Debug)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(AT_ONCE)),
            admitted: Semaphore::new(AT_ONCE + WAITING),
        }
    }
}

impl Passwords {
    /// The hash of a new password, in PHC form.
    ///
    /// # Errors
    /// The password breaks the rules, too many are waiting, or hashing failed.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
            return Err(PasswordError::Length);
        }
        let password = password.to_owned();
        self.run(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
                .map_err(|error| PasswordError::Failed(error.to_string()))
        })
        .await?
    }

    /// Whether a password is the one of `hash`. Where there is no hash, because there is no such
    /// user, the answer is no, and takes as long.
    ///
    /// # Errors
    /// Too many are waiting, or hashing failed.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError> {
        let hash = hash.filter(|hash| !hash.is_empty()).map(str::to_owned);
        let password = password.to_owned();
        self.run(move || {
            if password.len() > MAX_PASSWORD {
                return false;
            }
            match hash {
                Some(hash) => {
                    Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok()
                }
                None => {
                    let spent = Argon2::default().hash_password(password.as_bytes());
                    drop(std::hint::black_box(spent));
                    false
                }
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _admitted = self.admitted.try_acquire().map_err(|_| PasswordError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| PasswordError::Busy)?;
        // The work goes on where the caller goes away, and so does its share.
        let work = move || {
            let _running = running;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| PasswordError::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_opens_its_own_hash_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(passwords.verify("correct horse", Some(&hash)).await.unwrap());
        for (password, hash) in [
            ("wrong horse", Some(hash.as_str())),
            ("correct horse", None),
            ("", Some("")),
            ("x", Some("junk")),
        ] {
            assert!(!passwords.verify(password, hash).await.unwrap(), "{password} {hash:?}");
        }
        assert!(matches!(passwords.hash("short").await, Err(PasswordError::Length)));
    }
}
