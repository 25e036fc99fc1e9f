//! Text with variables, as zone rules write it: `https://${host}/new/${1}`. Parsed when the file is
//! read, so that a variable that does not exist is a mistake of the file; filled in by the room
//! `rules`.

/// What a variable stands for in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The client's address.
    Client,
    /// The zone's name.
    Zone,
    /// The host asked for, with a port that is not the scheme's own.
    Host,
    /// The request's id, as in the log.
    RequestId,
    /// The path in its normal form.
    Path,
    /// The query without `?`, as the client wrote it; empty without one.
    Query,
    /// Path and query as the client wrote them.
    Target,
    /// The method.
    Method,
    /// `https` or `http`.
    Scheme,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `HTTP/3`.
    Protocol,
    /// The TLS version of the connection, `TLSv1.3`; empty without TLS.
    Tls,
    /// SHA-256 of the client's certificate in hexadecimal; empty without one.
    CertificateFingerprint,
    /// The subject of the client's certificate; empty without one.
    CertificateSubject,
    /// The issuer of the client's certificate; empty without one.
    CertificateIssuer,
    /// SHA-256 of the public key of the client's certificate in hexadecimal; empty without one.
    CertificateSpki,
    /// The name that was shown with its password to a rule with `auth`; empty without one.
    User,
    /// A claim of the token that a rule with `auth.jwt` has checked; empty without one.
    Claim(Box<str>),
    /// `phone`, `tablet` or `desktop`, by what the client says of itself.
    Device,
    /// A request field's first value; empty without one.
    Header(Box<str>),
    /// A cookie's value; empty without one.
    Cookie(Box<str>),
    /// A query parameter's first value, as the client wrote it; empty without one.
    Parameter(Box<str>),
    /// A group of the path's regular expression, by number.
    Group(usize),
    /// A group of the path's regular expression, by name.
    Named(Box<str>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(Box<str>),
    /// What the request says.
    Variable(Variable),
}

/// A parsed template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

/// The variables without arguments, for messages.
const KNOWN: &str = "client, zone, host, request_id, path, query, target, method, scheme, protocol, tls, certificate_fingerprint, \
                     certificate_subject, certificate_issuer, certificate_spki, user, device, claim.NAME, header.NAME, cookie.NAME, \
                     query.NAME, or a group of the path's expression";

impl Template {
    /// Reads `text`; `groups` are the names of the groups of the rule's expressions, a number for
    /// those without. `$$` is a `$`.
    ///
    /// # Errors
    /// What is wrong, and the mend.
    pub fn parse(text: &str, groups: &[String]) -> Result<Self, (String, String)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.strip_prefix('{').and_then(|named| named.split_once('}')) else {
                return Err((
                    format!("a lone $ in \"{text}\""),
                    "write ${name} for a variable, $$ for a dollar sign".to_owned(),
                ));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Variable(variable(name, groups)?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces))
    }

    /// The text that stands in front of the first variable.
    pub fn head(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }
}

fn variable(name: &str, groups: &[String]) -> Result<Variable, (String, String)> {
    Ok(match name {
        "client" => Variable::Client,
        "zone" => Variable::Zone,
        "host" => Variable::Host,
        "request_id" => Variable::RequestId,
        "path" => Variable::Path,
        "query" => Variable::Query,
        "target" => Variable::Target,
        "method" => Variable::Method,
        "scheme" => Variable::Scheme,
        "protocol" => Variable::Protocol,
        "tls" => Variable::Tls,
        "certificate_fingerprint" => Variable::CertificateFingerprint,
        "certificate_subject" => Variable::CertificateSubject,
        "certificate_issuer" => Variable::CertificateIssuer,
        "certificate_spki" => Variable::CertificateSpki,
        "user" => Variable::User,
        "device" => Variable::Device,
        other => {
            if let Some((kind, argument)) = other.split_once('.')
                && !argument.is_empty()
            {
                match kind {
                    "claim" => return Ok(Variable::Claim(argument.into())),
                    "header" => return Ok(Variable::Header(argument.to_ascii_lowercase().into())),
                    "cookie" => return Ok(Variable::Cookie(argument.into())),
                    "query" => return Ok(Variable::Parameter(argument.into())),
                    _ => {}
                }
            }
            if !groups.iter().any(|group| group == other) {
                return Err((
                    format!("\"${{{other}}}\" is not a variable"),
                    format!("write one of {KNOWN}"),
                ));
            }
            match other.parse() {
                Ok(number) => Variable::Group(number),
                Err(_) => Variable::Named(other.into()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A redirect would lead to the letters `${host}`, or nobody would be told of a slip.
    #[test]
    fn templates_are_read() {
        let groups = ["1".to_owned(), "year".to_owned()];
        let template = Template::parse("https://${host}/$$/${1}${year}?a=${query.a}", &groups).unwrap();
        assert_eq!(
            template.0,
            [
                Piece::Text("https://".into()),
                Piece::Variable(Variable::Host),
                Piece::Text("/$/".into()),
                Piece::Variable(Variable::Group(1)),
                Piece::Variable(Variable::Named("year".into())),
                Piece::Text("?a=".into()),
                Piece::Variable(Variable::Parameter("a".into())),
            ]
        );
        assert_eq!(template.head(), "https://");
        for wrong in ["${nobody}", "${2}", "$", "a$b", "${", "${header.}", "${}"] {
            assert!(Template::parse(wrong, &groups).is_err(), "{wrong}");
        }
    }
}
