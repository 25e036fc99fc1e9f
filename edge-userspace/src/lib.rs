//! The edge daemon as a library: the binaries only read their arguments.
