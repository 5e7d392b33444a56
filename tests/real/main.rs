//! Tests on real programs.

mod kubernetes;
mod outsider;
