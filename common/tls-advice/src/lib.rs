//! Failed TLS handshakes in sentences that say what to do, for the clients of the config server and of the broker.

use std::error::Error;

/// The setting whose address was dialed, and its counterparts.
#[derive(Debug, Clone, Copy)]
pub struct TlsKeys {
    /// Key of the address, such as `amqp_server_url`.
    pub address: &'static str,
    /// Key of the file with the trusted authority, such as `amqp_ca_file`.
    pub ca_file: &'static str,
    /// Scheme of an address without TLS, such as `amqp://`.
    pub plain_scheme: &'static str,
}

/// Returns what is wrong and what to do, if an error is that of a TLS handshake: a person has to act then.
#[must_use]
#[cfg(feature = "tls")]
pub fn advice(error: &(dyn Error + 'static), keys: TlsKeys) -> Option<String> {
    use rustls::CertificateError as Certificate;

    let TlsKeys { address, ca_file, plain_scheme } = keys;
    let advice = match rustls_error(error)? {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // Another authority of the same name is a bad signature.
            Certificate::UnknownIssuer | Certificate::BadSignature => format!(
                "the server's certificate is signed by an authority that is not trusted: set {ca_file} to the PEM file of \
                 that authority"
            ),
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => format!(
                "{certificate}: write a name that the certificate has in {address}, or give the server a certificate with \
                 this name"
            ),
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                format!("the server's certificate has expired ({certificate}): renew it")
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                format!(
                    "the server's certificate is not valid yet ({certificate}): check the clocks of both machines"
                )
            }
            other => format!("the server's certificate is refused: {other}"),
        },
        rustls::Error::InvalidMessage(_) => format!(
            "the server does not speak TLS on this port: write {plain_scheme} in {address}, or the port on which it does"
        ),
        other => format!("the TLS handshake failed: {other}"),
    };
    Some(advice)
}

/// Without TLS in the build there are no such errors.
#[must_use]
#[cfg(not(feature = "tls"))]
pub fn advice(_: &(dyn Error + 'static), _: TlsKeys) -> Option<String> {
    None
}

/// Finds the error of rustls among the causes. An [`std::io::Error`] does not name the error that it was made of as its cause.
#[cfg(feature = "tls")]
fn rustls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &'e (dyn Error + 'static)),
        None => error.source(),
    })
    .find_map(|error| error.downcast_ref())
}
