//! `irsad check-config`.

use std::process::ExitCode;

use super::{Global, Output, output, settings};

/// Reads the configuration and says what is wrong with it; every mistake at once.
#[tokio::main(flavor = "current_thread")]
pub(super) async fn execute(global: &Global) -> anyhow::Result<ExitCode> {
    let settings = settings::load(global).await?;
    match global.output {
        Output::Json => output::json(&serde_json::json!({ "version": 1, "valid": true, "notices": settings.notices }))?,
        Output::Text | Output::Svg => {
            output::say!(
                "{} is valid: cluster {}, issuer {}",
                global.config.display(),
                settings.cluster,
                settings.issuer.url
            );
            settings.notices.iter().for_each(|notice| output::say!("note: {notice}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
