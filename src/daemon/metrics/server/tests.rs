use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream as StdStream},
};

use super::*;

type Outcome<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A server in a thread of its own, as the daemon has it.
struct Served {
    port: u16,
    ports: flag::Sender<Option<u16>>,
    problem: flag::Receiver<Option<String>>,
}

impl Served {
    fn start() -> Outcome<Self> {
        let socket = StdListener::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Self::at(port, Some(Ok(socket)))
    }

    fn at(port: u16, first: Option<Listening>) -> Outcome<Self> {
        let (ports, wanted) = flag::channel(Some(port));
        let (problems, problem) = flag::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = |accept: &str| ("text/plain", format!("for {accept}\n"));
        let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
        std::thread::spawn(move || runtime.block_on(keep(first, wanted, problems, text, limits)));
        Ok(Self { port, ports, problem })
    }

    fn ask(&self, request: &str) -> Outcome<String> {
        let mut stream = StdStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn says(&self, is_it: impl Fn(Option<&str>) -> bool) -> bool {
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < until {
            if is_it(self.problem.borrow().as_deref()) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }
}

#[test]
fn only_the_page_is_served_and_only_to_readers() -> Outcome {
    let served = Served::start()?;
    let page = "for text/plain;q=0.5,*/*\n";
    for (request, status, end) in [
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: text/plain;q=0.5\r\nAccept: */*\r\n\r\n", "200 OK", page),
        ("GET /metrics?a=b HTTP/1.0\r\n\r\n", "200 OK", "for \n"),
        ("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "\r\n\r\n"),
        (
            "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
            "405 Method Not Allowed",
            "only GET and HEAD are taken here\n",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 Not Found", "there is nothing here but /metrics\n"),
        ("nonsense\r\n\r\n", "400 Bad Request", "\r\n\r\n"),
    ] {
        let answer = served.ask(request)?;
        let answered = answer.split("\r\n").next().unwrap_or_default();
        assert!(answered.ends_with(status) && answer.ends_with(end), "{request:?}: {answer:?}");
    }
    Ok(())
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_for_long_and_those_that_leave_cost_no_place() -> Outcome {
    let (served, connections) = (Served::start()?, Limits::default().connections);
    for _ in 0..3 * connections {
        StdStream::connect(("127.0.0.1", served.port))?.shutdown(Shutdown::Both)?;
    }
    let silent: Vec<_> = (0..connections).map(|_| StdStream::connect(("127.0.0.1", served.port))).collect();
    let answer = served.ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(silent.into_iter().filter(Result::is_ok).count(), connections);
    Ok(())
}

#[test]
fn port_that_is_taken_is_said_and_another_one_is_served_when_told() -> Outcome {
    let taken = StdListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let mut served = Served::at(port, None)?;
    let sentence = format!(
        "port {port} on 127.0.0.1 is taken by another program, so nobody can read irsad's metrics; `ss -ltnp sport = :{port}` names it, \
         stop it or set metrics.port"
    );
    assert!(served.says(|problem| problem == Some(sentence.as_str())), "{:?}", served.problem.borrow());

    served.port = StdListener::bind("127.0.0.1:0")?.local_addr()?.port();
    served.ports.send_replace(Some(served.port));
    assert!(served.says(|problem| problem.is_none()), "{:?}", served.problem.borrow());
    assert!(served.ask("GET /metrics HTTP/1.0\r\n\r\n")?.starts_with("HTTP/1.0 200 OK\r\n"));

    served.ports.send_replace(None);
    while StdStream::connect(("127.0.0.1", served.port)).is_ok() {
        std::thread::yield_now();
    }
    Ok(())
}
