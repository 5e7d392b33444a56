//! Tests against real components. A part that this machine does not have is named, never silently left out.

mod adoption;
mod alone;
mod aws_calls;
mod aws_stores;
mod cloud;
mod cloud_rules;
#[path = "../contract/store.rs"]
mod contract;
mod crash;
mod disk;
mod echoer;
mod evidence;
mod first_boot;
mod irsad;
mod keyring_secrets;
mod kubernetes;
mod lease;
mod migrate;
mod missing;
mod node_rules;
mod outsider;
mod outsider_rules;
mod prometheus;
mod quickstart;
mod refusals;
mod registration;
mod requests;
mod restore;
mod roles;
mod sealing;
mod service;
mod service_account_roles;
mod stacks;
mod terraform;
mod webhook;

// For `contract`.
use ::irsad::store::{Condition, Store, StoreError};
use missing::missing;
