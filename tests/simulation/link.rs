//! A wire between two daemons: it delays, interleaves, and can be cut at any message.

use std::collections::VecDeque;

use channeld::node::input::SessionNumber;
use channeld::wire::Message;

/// Something that waits to be told to a daemon.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A session began.
    Connected(SessionNumber),
    /// A message on it.
    Message(SessionNumber, Box<Message>),
    /// It is over.
    Disconnected(SessionNumber),
}

/// See the file's map.
pub struct Link {
    /// The daemons at its two ends.
    pub ends: [usize; 2],
    /// The present session's numbers at each end.
    sessions: Option<[SessionNumber; 2]>,
    /// What each end has not taken yet.
    waiting: [VecDeque<Arrival>; 2],
    next: u64,
}

impl Link {
    /// A wire without a session.
    pub fn between(one: usize, other: usize) -> Link {
        Link { ends: [one, other], sessions: None, waiting: [VecDeque::new(), VecDeque::new()], next: 0 }
    }

    /// The end at which this daemon is.
    pub fn end_of(&self, who: usize) -> Option<usize> {
        self.ends.iter().position(|end| *end == who)
    }

    /// Whether there is a session.
    pub const fn is_up(&self) -> bool {
        self.sessions.is_some()
    }

    /// Whether nothing waits at an end.
    pub fn is_quiet(&self, end: usize) -> bool {
        self.waiting[end].is_empty()
    }

    /// Begins a session.
    pub fn connect(&mut self) {
        if self.is_up() {
            return;
        }
        let numbers = [SessionNumber(self.next + 1), SessionNumber(self.next + 2)];
        self.next += 2;
        self.sessions = Some(numbers);
        for (waiting, number) in self.waiting.iter_mut().zip(numbers) {
            waiting.push_back(Arrival::Connected(number));
        }
    }

    /// Ends the session. Of what is still on the wire to each end, only so many messages arrive.
    pub fn cut(&mut self, arriving: [usize; 2]) {
        let Some(numbers) = self.sessions.take() else { return };
        for ((waiting, number), most) in self.waiting.iter_mut().zip(numbers).zip(arriving) {
            let mut left = most;
            waiting.retain(|arrival| match arrival {
                Arrival::Message(session, _) if *session == number => {
                    let stays = left > 0;
                    left = left.saturating_sub(1);
                    stays
                }
                _ => true,
            });
            waiting.push_back(Arrival::Disconnected(number));
        }
    }

    /// A daemon died: its sessions with it.
    pub fn crash(&mut self, end: usize, arriving: usize) {
        let mut most = [0, 0];
        most[1 - end] = arriving;
        self.cut(most);
        self.waiting[end].clear();
    }

    /// Whether `session` is the present one at this end.
    pub fn is_present(&self, end: usize, session: SessionNumber) -> bool {
        self.sessions.is_some_and(|numbers| numbers[end] == session)
    }

    /// Puts a message on the wire; what belongs to a session that is gone is dropped.
    ///
    /// # Panics
    /// Where our own message is not read back as it was.
    pub fn send(&mut self, end: usize, session: SessionNumber, message: &Message) {
        let Some(numbers) = self.sessions.filter(|numbers| numbers[end] == session) else { return };
        let bytes = message.encode();
        let read = Message::decode(&bytes).unwrap_or_else(|error| panic!("{message:?} is not read back: {error}"));
        assert_eq!(read.encode(), bytes, "a message that is read is the one that was written");
        self.waiting[1 - end].push_back(Arrival::Message(numbers[1 - end], Box::new(read)));
    }

    /// Takes what waits at an end: one connection event, or up to `most` messages of one session.
    pub fn take(&mut self, end: usize, most: usize) -> Vec<Arrival> {
        let waiting = &mut self.waiting[end];
        let Some(first) = waiting.pop_front() else { return Vec::new() };
        let mut taken = vec![first];
        if let Arrival::Message(session, _) = taken[0] {
            while taken.len() < most && matches!(waiting.front(), Some(Arrival::Message(next, _)) if *next == session) {
                taken.extend(waiting.pop_front());
            }
        }
        taken
    }
}
