//! Tests on real programs.

mod kubernetes;
