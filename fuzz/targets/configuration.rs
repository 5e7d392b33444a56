//! Whatever stands in irsad.yaml and a drop-in beside it: settings, or mistakes with a place each.
#![no_main]

use irsad_fuzz::config::{Distribution, Inputs, Mistakes};
use libfuzzer_sys::fuzz_target;

/// Where a file ends and the drop-in begins.
const NEXT: &[u8] = b"\n=====\n";

fuzz_target!(|data: &[u8]| {
    let end = data.windows(NEXT.len()).position(|window| window == NEXT);
    let (main, drop_in) = end.map_or((data, None), |end| (&data[..end], Some(&data[end + NEXT.len()..])));
    let texts: Vec<(&str, &[u8])> =
        [("irsad.yaml", main)].into_iter().chain(drop_in.map(|text| ("irsad.d/1.yaml", text))).collect();
    let inputs = match Inputs::from_texts(&texts) {
        Ok(inputs) => inputs,
        Err(mistakes) => return are_told(&mistakes),
    };
    for distribution in [Distribution::Kubeadm, Distribution::Kops] {
        for region in [None, "eu-west-1".parse().ok()] {
            match inputs.settle(region, || distribution) {
                // What the planner is given.
                Ok(settings) => drop(settings.desired()),
                Err(mistakes) => are_told(&mistakes),
            }
        }
    }
});

fn are_told(mistakes: &Mistakes) {
    assert!(mistakes.iter().count() > 0 && !mistakes.to_string().is_empty());
}
