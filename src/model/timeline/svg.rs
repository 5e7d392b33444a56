//! A timeline as a drawing: one file, no fonts and no scripts beside it, readable on a light and on a dark page.

use std::fmt::{self, Write as _};

use super::{Event, KeyRow, Lane, Span, Timeline, minute};

/// Width of the drawing; user units are pixels where nobody scales it.
const WIDTH: f64 = 1000.0;
/// Where time begins.
const LEFT: f64 = 92.0;
/// Where it ends.
const RIGHT: f64 = WIDTH - 28.0;
/// Height of the heading with the axis.
const HEAD: f64 = 84.0;
/// From one lane to the next.
const LANE: f64 = 16.0;
/// Height of a bar in its lane.
const BAR: f64 = 10.0;
/// Height of the two lines above a key's lanes, and of the space above them.
const KEY_HEAD: f64 = 48.0;
/// From one line of text to the next.
const LINE: f64 = 18.0;
/// Dates on the axis, at most.
const MOST_TICKS: usize = 9;

/// Colours that differ in lightness as well, for those who do not see them: on white, then on black.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.h{font-size:16px;font-weight:600}.k{font:600 12px ui-monospace,monospace}.s{fill:#59636e}\
.bg{fill:#fff}.g{stroke:#d1d9e0}.n{stroke:#cf222e;stroke-width:1.5}.nt{fill:#cf222e}\
.published{fill:#0969da;stroke:#0969da}.signing{fill:#116329;stroke:#116329}.draining{fill:#bc4c00;stroke:#bc4c00}\
.accepted{fill:#818b98;stroke:#818b98}.x{fill-opacity:.12;stroke-dasharray:4 3}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.s{fill:#9198a1}.bg{fill:#0d1117}.g{stroke:#3d444d}.n{stroke:#ff7b72}.nt{fill:#ff7b72}\
.published{fill:#58a6ff;stroke:#58a6ff}.signing{fill:#3fb950;stroke:#3fb950}.draining{fill:#f0883e;stroke:#f0883e}\
.accepted{fill:#8b949e;stroke:#8b949e}}";

/// The whole file.
pub(super) fn draw(timeline: &Timeline) -> String {
    let mut body = Drawing(String::new());
    let foot = timeline.keys.iter().fold(HEAD, |top, key| body.key(timeline, key, top));
    body.legend(foot + 34.0);
    let height = body.events(timeline, foot + 62.0);
    let title = format!("Service-account signing keys of {}", Escaped(&timeline.cluster));
    let mut page = Drawing(String::new());
    page.add(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">"#
    ));
    page.add(format_args!(r#"<title id="title">{title}</title>"#));
    page.add(format_args!(r#"<desc id="desc">{}</desc>"#, Escaped(&description(timeline))));
    page.add(format_args!("<style>{STYLE}</style>"));
    page.add(format_args!(r#"<rect class="bg" width="{WIDTH}" height="{height}"/>"#));
    page.text(16.0, 28.0, "h", &title);
    let subtitle = format!("keyring generation {}, drawn at {} UTC", timeline.generation, minute(timeline.now));
    page.text(16.0, 48.0, "s", &subtitle);
    page.axis(timeline, foot);
    page.0.push_str(&body.0);
    page.add(format_args!("</svg>"));
    page.0
}

/// What somebody who cannot see the drawing is told.
fn description(timeline: &Timeline) -> String {
    let keys: Vec<String> = timeline.keys.iter().map(|key| format!("Key {}: {}.", key.kid, key.summary)).collect();
    format!("From {} to {} UTC. {}", minute(timeline.from), minute(timeline.until), keys.join(" "))
}

/// Text of a file that grows, an element a line.
struct Drawing(String);

impl Drawing {
    fn add(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{element}");
    }

    /// `text` is escaped already.
    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.add(format_args!(r#"<text x="{x}" y="{y}" class="{class}">{text}</text>"#));
    }

    fn axis(&mut self, timeline: &Timeline, foot: f64) {
        let now = x(timeline, timeline.now);
        for tick in timeline.ticks(MOST_TICKS) {
            let at = x(timeline, tick);
            self.add(format_args!(r#"<path class="g" d="M{at:.1} {HEAD}V{foot}"/>"#));
            // The date of today would stand under the word for it.
            if (at - now).abs() > 40.0 || now < LEFT {
                let label = timeline.label(tick);
                self.add(format_args!(
                    r#"<text x="{at:.1}" y="{}" class="s" text-anchor="middle">{label}</text>"#,
                    HEAD - 6.0
                ));
            }
        }
        self.add(format_args!(r#"<path class="n" d="M{now:.1} {HEAD}V{foot}"/>"#));
        self.add(format_args!(r#"<text x="{now:.1}" y="{}" class="nt" text-anchor="middle">now</text>"#, HEAD - 6.0));
    }

    /// A key below `top`; gives where it ends.
    fn key(&mut self, timeline: &Timeline, key: &KeyRow, top: f64) -> f64 {
        self.text(16.0, top + 22.0, "k", &Escaped(&key.kid).to_string());
        self.text(16.0, top + 38.0, "s", &Escaped(&key.summary).to_string());
        let mut y = top + KEY_HEAD;
        for lane in Lane::ALL {
            let spans: Vec<&Span> =
                key.spans.iter().filter(|span| span.lane == lane && is_seen(timeline, span)).collect();
            if spans.is_empty() {
                continue;
            }
            self.text(16.0, y + BAR - 1.0, "s", lane.name());
            spans.into_iter().for_each(|span| self.span(timeline, span, y));
            y += LANE;
        }
        y
    }

    fn span(&mut self, timeline: &Timeline, span: &Span, y: f64) {
        let from = x(timeline, span.from);
        let until = span.until.map_or(RIGHT, |until| x(timeline, until));
        // An hour of a year is still seen.
        let width = (until - from).max(2.0);
        let name = span.lane.name();
        let expected = if span.is_expected { " x" } else { "" };
        self.add(format_args!(
            r#"<rect class="{name}{expected}" x="{from:.1}" y="{y}" width="{width:.1}" height="{BAR}"><title>{}</title></rect>"#,
            told(span)
        ));
        if span.until.is_none_or(|until| until > timeline.until) {
            let (tip, middle, low) = (RIGHT + 7.0, y + BAR / 2.0, y + BAR);
            self.add(format_args!(r#"<path class="{name}" d="M{RIGHT} {y}L{tip} {middle}L{RIGHT} {low}z"/>"#));
        }
    }

    fn legend(&mut self, y: f64) {
        let mut left = 16.0;
        let entries = Lane::ALL.map(|lane| (lane.name(), meaning(lane)));
        for (class, meaning) in entries.into_iter().chain([("published x", "dashed: expected, not before")]) {
            let bar = y - BAR;
            self.add(format_args!(r#"<rect class="{class}" x="{left}" y="{bar}" width="22" height="{BAR}"/>"#));
            self.text(left + 28.0, y, "s", meaning);
            left += 44.0 + 6.3 * meaning.len() as f64;
        }
    }

    /// What happened and what is expected; gives the height of the whole.
    fn events(&mut self, timeline: &Timeline, top: f64) -> f64 {
        let mut y = top;
        for (heading, is_expected) in [("What happened (UTC)", false), ("What is expected, not before (UTC)", true)] {
            let events: Vec<&Event> = timeline.events.iter().filter(|event| event.is_expected == is_expected).collect();
            if events.is_empty() {
                continue;
            }
            y += LINE;
            self.text(16.0, y, "k", heading);
            for event in events {
                y += LINE;
                self.text(16.0, y, "s", &minute(event.at));
                self.text(140.0, y, "", &Escaped(&event.what).to_string());
            }
            y += LINE / 2.0;
        }
        y + LINE
    }
}

fn is_seen(timeline: &Timeline, span: &Span) -> bool {
    span.from <= timeline.until && span.until.is_none_or(|until| until >= timeline.from)
}

fn x(timeline: &Timeline, moment: jiff::Timestamp) -> f64 {
    LEFT + timeline.place(moment) * (RIGHT - LEFT)
}

/// What a reader sees who points at a bar.
fn told(span: &Span) -> String {
    let until = span.until.map_or("an open end".to_owned(), minute);
    let expected = if span.is_expected { ", expected" } else { "" };
    format!("{}, {} to {until}{expected}", span.lane.name(), minute(span.from))
}

fn meaning(lane: Lane) -> &'static str {
    match lane {
        Lane::Published => "published: seen in the JWKS",
        Lane::Signing => "signing: new tokens",
        Lane::Draining => "draining: old tokens",
        Lane::Accepted => "accepted: by API servers",
    }
}

/// Text between tags.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => formatter.write_str("&amp;"),
            '<' => formatter.write_str("&lt;"),
            '>' => formatter.write_str("&gt;"),
            other => formatter.write_char(other),
        })
    }
}
