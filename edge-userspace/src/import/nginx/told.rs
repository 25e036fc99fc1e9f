//! Why a directive that nothing was made of has not come along: known ones by name, and all others
//! as what they are, unknown.

use crate::import::Weight;

/// Which directives, and what to tell of them. `*` at a name's end stands for anything.
type Reason = (&'static [&'static str], Weight, &'static str);

const TUNES: &str = "tunes what edge does in another way";
const BY_ITSELF: &str = "edge does this by itself";

const REASONS: &[Reason] = &[
    (
        &["if"],
        Weight::Missing,
        "the condition or what it does has no equal: write a [[zone.rule]] (docs/rules.md)",
    ),
    (
        &["auth_request", "auth_request_set"],
        Weight::Protection,
        "a question to another server before a request is let in",
    ),
    (
        &["auth_jwt*"],
        Weight::Protection,
        "write auth = { jwt = { … } } into a rule (docs/rules.md, Tokens)",
    ),
    (
        &["auth_basic*", "auth_*"],
        Weight::Protection,
        "write auth = { … } into a rule (docs/rules.md)",
    ),
    (
        &["limit_conn*", "limit_rate*", "limit_req*"],
        Weight::Protection,
        "a limit: write a [[zone.gate.rule]] (docs/gate.md), or bounds in [limits] (docs/limits.md)",
    ),
    (
        &["allow", "deny", "satisfy", "internal", "limit_except"],
        Weight::Protection,
        "write a [[zone.rule]] with networks and respond = { status = 403 }",
    ),
    (
        &["ssl_verify_client", "ssl_client_certificate", "ssl_crl", "ssl_ocsp*"],
        Weight::Protection,
        "write client_certificates into the zone (docs/tls.md)",
    ),
    (
        &["valid_referers", "secure_link*", "disable_symlinks"],
        Weight::Protection,
        "it has no equal",
    ),
    (
        &[
            "modsecurity*",
            "access_by_lua*",
            "rewrite_by_lua*",
            "js_access",
            "perl",
            "naxsi*",
            "SecRules*",
            "CheckRule",
        ],
        Weight::Protection,
        "code or a firewall of nginx's: write a worker (docs/workers.md) or rules",
    ),
    (
        &["*_by_lua*", "lua_*", "js_*", "perl_*"],
        Weight::Missing,
        "code of nginx's: write a worker (docs/workers.md)",
    ),
    (
        &["proxy_ssl_verify*"],
        Weight::Different,
        "edge always verifies the certificates of https servers",
    ),
    (
        &["error_page", "recursive_error_pages", "proxy_intercept_errors"],
        Weight::Missing,
        "write a [[zone.error_page]] (docs/rules.md)",
    ),
    (
        &["fastcgi_*", "uwsgi_*", "scgi_*", "memcached_*"],
        Weight::Missing,
        "edge speaks HTTP to origins: put a server that speaks it in front of the program",
    ),
    (
        &["map", "geo", "split_clients", "geoip*"],
        Weight::Missing,
        "a variable made of others that nothing here is decided by, or not by conditions of rules",
    ),
    (&["stream", "mail"], Weight::Missing, "edge serves HTTP alone"),
    (
        &[
            "sub_filter*",
            "addition_types",
            "add_before_body",
            "add_after_body",
            "ssi*",
            "xslt*",
            "image_filter*",
        ],
        Weight::Missing,
        "content is changed by workers alone (docs/workers.md)",
    ),
    (
        &["mirror*"],
        Weight::Missing,
        "write mirror = { to = \"pool\" } into a rule (docs/rules.md)",
    ),
    (
        &["autoindex_localtime", "autoindex_exact_size"],
        Weight::Idle,
        "a list has sizes and times",
    ),
    (&["autoindex*"], Weight::Missing, "lists are pages of HTML"),
    (
        &["stub_status", "status*"],
        Weight::Missing,
        "edge has /metrics and /status (docs/metrics.md)",
    ),
    (
        &["proxy_cookie_*", "proxy_redirect"],
        Weight::Missing,
        "fields of origins go on as they are",
    ),
    (
        &[
            "add_trailer",
            "etag",
            "charset*",
            "default_type",
            "types",
            "override_charset",
            "msie_refresh",
        ],
        Weight::Different,
        "media types and fields of files are edge's own",
    ),
    (
        &["expires"],
        Weight::Missing,
        "write response = { set = { Cache-Control = \"…\" } } into a rule",
    ),
    (
        &["proxy_cache*", "proxy_no_cache", "proxy_store*"],
        Weight::Missing,
        "the cache goes by what responses say (docs/cache.md)",
    ),
    (
        &["absolute_redirect", "port_in_redirect", "server_name_in_redirect"],
        Weight::Different,
        "redirects to a path stay paths, which clients resolve",
    ),
    (
        &[
            "proxy_http_version",
            "proxy_bind",
            "proxy_socket_keepalive",
            "proxy_pass_request_*",
            "proxy_method",
            "proxy_set_body",
            "proxy_pass_header",
            "proxy_headers_hash*",
            "proxy_ignore_*",
            "proxy_force_ranges",
        ],
        Weight::Missing,
        "requests and responses go on whole",
    ),
    (
        &[
            "user",
            "daemon",
            "master_process",
            "pid",
            "lock_file",
            "worker_*",
            "thread_pool",
            "events",
            "use",
            "multi_accept",
            "accept_mutex*",
            "debug_*",
            "env",
            "load_module",
            "pcre_jit",
            "timer_resolution",
            "working_directory",
        ],
        Weight::Idle,
        "the process is run by its unit; threads are [server] workers",
    ),
    (
        &[
            "sendfile*",
            "tcp_no*",
            "aio*",
            "directio*",
            "output_buffers",
            "postpone_output",
            "open_file_cache*",
            "read_ahead",
            "reset_timedout_connection",
            "lingering_*",
            "types_hash*",
            "server_names_hash*",
            "variables_hash*",
            "map_hash*",
            "connection_pool_size",
            "request_pool_size",
            "client_body_buffer_size",
            "client_header_buffer_size",
            "client_body_in*",
            "client_body_temp_path",
            "resolver*",
            "keepalive_disable",
            "max_ranges",
            "if_modified_since",
            "chunked_transfer_encoding",
            "log_not_found",
            "log_subrequest",
            "subrequest_output_buffer_size",
            "http2_*",
            "http3_*",
            "quic_*",
            "proxy_buff*",
            "proxy_busy*",
            "proxy_max_temp*",
            "proxy_temp*",
            "proxy_request_buffering",
            "proxy_limit_rate",
            "proxy_send_lowat",
            "zone",
            "queue",
            "gzip_buffers",
            "gzip_comp_level",
            "gzip_disable",
            "gzip_http_version",
            "gzip_vary",
            "gzip_proxied",
            "gunzip*",
            "hash_*",
            "variables_*",
        ],
        Weight::Idle,
        TUNES,
    ),
    (
        &["ssl_protocols", "ssl_certificate", "ssl_certificate_key"],
        Weight::Idle,
        "no server with TLS goes by it",
    ),
    (
        &[
            "ssl_ciphers",
            "ssl_prefer*",
            "ssl_ecdh_curve",
            "ssl_dhparam",
            "ssl_session_*",
            "ssl_buffer_size",
            "ssl_conf_command",
            "ssl_early_data",
            "ssl_stapling*",
            "ssl_trusted_certificate",
            "ssl_verify_depth",
            "ssl_reject_handshake",
            "ssl_engine",
            "proxy_ssl_*",
            "grpc_ssl_*",
        ],
        Weight::Idle,
        "suites, curves and tickets are edge's own (docs/tls.md)",
    ),
    (
        &[
            "access_log",
            "error_log",
            "log_format",
            "open_log_file_cache",
            "rewrite_log",
        ],
        Weight::Idle,
        "edge logs to standard output, which the journal keeps (docs/logs.md)",
    ),
    (
        &[
            "server_tokens",
            "ignore_invalid_headers",
            "merge_slashes",
            "absolute_uri",
        ],
        Weight::Idle,
        BY_ITSELF,
    ),
    (&["grpc_*"], Weight::Missing, "it has no equal"),
    (
        &["try_files"],
        Weight::Missing,
        "files are tried in front of nothing here: write a [[zone.route]] to files (docs/routes.md)",
    ),
    (
        &["index", "gzip_static", "brotli_static"],
        Weight::Idle,
        "nothing is answered from files there",
    ),
    (&["proxy_*"], Weight::Missing, "it has no equal"),
    (&["ssl_*"], Weight::Missing, "it has no equal"),
];

/// What to tell of a directive of this name that nothing was made of.
pub(super) fn reason(name: &str) -> (Weight, &'static str) {
    let fits = |pattern: &&&str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        // `*_by_lua*`
        (Some(front), Some(_)) => name.contains(front.trim_start_matches('*')),
        (Some(front), None) => name.starts_with(front),
        _ => name == **pattern,
    };
    let found = REASONS
        .iter()
        .find(|(names, ..)| names.iter().any(|pattern| fits(&pattern)));
    found.map_or(
        (Weight::Missing, "nothing is known of it here: it may be of a module"),
        |(_, weight, why)| (*weight, why),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard that is lost would be told among what nobody needs.
    #[test]
    fn each_name_has_its_weight() {
        for (name, weight) in [
            ("auth_request", Weight::Protection),
            ("auth_ldap", Weight::Protection),
            ("modsecurity_rules_file", Weight::Protection),
            ("access_by_lua_block", Weight::Protection),
            ("content_by_lua_block", Weight::Missing),
            ("worker_processes", Weight::Idle),
            ("sub_filter", Weight::Missing),
            ("ssl_ciphers", Weight::Idle),
            ("ssl_protocols", Weight::Idle),
            ("ssl_verify_client", Weight::Protection),
            ("frobnicate", Weight::Missing),
            ("limit_conn_zone", Weight::Protection),
        ] {
            assert_eq!(reason(name).0, weight, "{name}");
        }
        for (names, ..) in REASONS {
            for name in *names {
                assert!(!name.trim_matches('*').contains('*'), "{name}");
            }
        }
    }
}
