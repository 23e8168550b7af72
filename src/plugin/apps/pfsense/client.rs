//! pfSense's web interface as a browser uses it: one cookie, and a token (csrf-magic) that every form must carry.
//!
//! A failure is a page with status 200, so what a page is for is read from the page: its login form, its messages.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::error::codes;
use crate::plugin::apps::firewall::XML_BYTES_MAX;
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::plugin::kit::events::EventWriter;
use crate::web::{Answer, Call, Saved, Web};

const PAGE: &str = "/diag_backup.php";
const TOKEN: &str = "__csrf_magic";
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// One visit.
pub(super) struct Browser<'w> {
    web: &'w Web,
    /// `PHPSESSID=…`
    cookie: Option<SecretString>,
    token: Option<SecretString>,
    /// Whether pfSense took the password.
    is_in: bool,
}

impl<'w> Browser<'w> {
    pub(super) fn new(web: &'w Web) -> Self {
        Self { web, cookie: None, token: None, is_in: false }
    }

    /// Logs in, and stands before the form then.
    pub(super) fn log_in(&mut self, user: &str, password: &SecretString) -> Result<(), Failure> {
        let page = self.get(PAGE)?;
        if !is_login(&page) {
            return Err(self.strange("shows no login"));
        }
        let fields = [("login", "Login"), ("usernamefld", user), ("passwordfld", password.expose_secret())];
        let answer = self.post(PAGE, &fields)?;
        match answer.status() {
            200 if answer.content_type().contains("html") => {
                let page = self.text(answer)?;
                if is_login(&page) {
                    let locked = page.contains("too many") || page.contains("locked");
                    let why = if locked { " (too many attempts)" } else { "" };
                    return Err(Failure::new(
                        codes::UNAUTHORIZED,
                        format!("pfSense {} does not take user and password{why}", self.web.shown()),
                    )
                    .hint("check both at System, User Manager; after failed logins an address is locked for a while"));
                }
            }
            301..=303 => {}
            429 | 403 => {
                return Err(Failure::new(
                    codes::LOCKED_OUT,
                    format!("{} was answered with {}", answer.what(), answer.status()),
                )
                .hint("pfSense locks an address after failed logins (sshguard); it is tried again")
                .later());
            }
            _ => return Err(self.strange(&format!("answers the login with {}", answer.status()))),
        }
        self.is_in = true;
        let answer = self.send(self.web.get(PAGE))?;
        if (300..400).contains(&answer.status()) {
            return Err(self.no_right());
        }
        let page = self.text(answer)?;
        if is_login(&page) {
            return Err(self.strange("asks for the login again"));
        }
        if page.contains("No page assigned") || !page.contains("donotbackuprrd") {
            return Err(self.no_right());
        }
        Ok(())
    }

    /// Sends the form; what comes is the configuration, or a page that says why not.
    pub(super) fn download(
        &mut self,
        wanted: &[(&str, &str)],
        path: &Path,
        events: &mut EventWriter<'_>,
    ) -> Result<Saved, Failure> {
        let answer = self.post(PAGE, wanted)?;
        if (300..400).contains(&answer.status()) {
            return Err(download::redirected(&answer));
        }
        if answer.status() != 200 {
            return Err(self.strange(&format!("answers the form with {}", answer.status())));
        }
        if answer.content_type().contains("html") && answer.header("content-disposition").is_none() {
            let what = answer.what().to_owned();
            let page = self.text(answer)?;
            return Err(if is_login(&page) {
                Failure::new(codes::SESSION_ENDED, format!("{what}: pfSense asks for the login again"))
                    .hint("does somebody else use the same user? give larder one of its own")
            } else if page.contains("CSRF") {
                Failure::new(codes::FORM_REFUSED, format!("{what}: pfSense refuses the form (CSRF check failed)"))
                    .hint("set the clock of pfSense; a form's token is valid for two hours")
            } else {
                download::a_page(&what)
            });
        }
        download::save(answer, path, XML_BYTES_MAX, events)
    }

    /// Ends the session, if there is one.
    pub(super) fn log_out(&mut self) -> Result<(), Failure> {
        if !self.is_in {
            return Ok(());
        }
        let answer = self.post("/index.php", &[("logout", "")])?;
        match answer.status() {
            200..=399 => Ok(()),
            status => Err(Failure::new(codes::SESSION_LEFT, format!("{} was answered with {status}", answer.what()))),
        }
    }

    fn get(&mut self, path: &str) -> Result<String, Failure> {
        let answer = self.send(self.web.get(path))?;
        if (300..400).contains(&answer.status()) {
            return Err(download::redirected(&answer));
        }
        if answer.status() != 200 {
            return Err(self.strange(&format!("answers with {}", answer.status())));
        }
        self.text(answer)
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answer<'w>, Failure> {
        let token = self.token.clone();
        let token = token.as_ref().map(|token| (TOKEN, token.expose_secret()));
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain(token).collect();
        self.send(self.web.post(path).form(&fields))
    }

    fn send(&mut self, call: Call<'w>) -> Result<Answer<'w>, Failure> {
        // Its own pages are the only ones that pfSense takes forms from.
        let call = call.header("referer", &format!("{}{PAGE}", self.web.shown()));
        let call = match &self.cookie {
            Some(cookie) => call.secret_header("cookie", cookie),
            None => call,
        };
        let answer = call.send()?;
        let session = |cookie: &String| {
            let pair = cookie.split(';').next().unwrap_or_default().trim();
            pair.starts_with("PHPSESSID=").then(|| SecretString::from(pair))
        };
        if let Some(cookie) = answer.headers("set-cookie").iter().rev().find_map(session) {
            self.cookie = Some(cookie);
        }
        Ok(answer)
    }

    /// The page, whose token is kept for the next form.
    fn text(&mut self, answer: Answer<'_>) -> Result<String, Failure> {
        let page = String::from_utf8_lossy(&answer.bytes(PAGE_BYTES_MAX)?).into_owned();
        if let Some(token) = token(&page) {
            self.token = Some(SecretString::from(token));
        }
        Ok(page)
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::new(codes::NOT_PFSENSE, format!("{} {what}", self.web.shown()))
            .hint("is it the web interface of pfSense, and no proxy before it?")
    }

    fn no_right(&self) -> Failure {
        Failure::new(codes::FORBIDDEN, format!("the user may not see {PAGE} of pfSense {}", self.web.shown()))
            .hint("give it the privilege `WebCfg - Diagnostics: Backup & Restore` (System, User Manager)")
    }
}

fn is_login(page: &str) -> bool {
    page.contains("usernamefld") && page.contains("passwordfld")
}

/// The token of csrf-magic, from a form's hidden field or from the script that fills them in.
fn token(page: &str) -> Option<&str> {
    let field =
        page.split_once("name='__csrf_magic' value=\"").or_else(|| page.split_once("name=\"__csrf_magic\" value=\""));
    let (_, rest) = field.or_else(|| page.split_once("csrfMagicToken = \""))?;
    rest.split_once('"').map(|(token, _)| token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_in_forms_and_in_the_script() {
        for page in [
            "<form><input type='hidden' name='__csrf_magic' value=\"sid:ab,1;ip:cd,2\" /></form>",
            "<script>var csrfMagicToken = \"sid:ab,1;ip:cd,2\";var csrfMagicName = \"__csrf_magic\";</script>",
        ] {
            assert_eq!(token(page), Some("sid:ab,1;ip:cd,2"));
        }
        assert_eq!(token("<html>nothing</html>"), None);
    }
}
