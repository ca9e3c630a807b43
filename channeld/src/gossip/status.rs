//! How complete the graph is, for whoever asks.

/// See the file's map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GossipStatus {
    /// Channels in the graph.
    pub channels: usize,
    /// Nodes in the graph.
    pub nodes: usize,
    /// Whether a peer's list of channels was gone through since the start.
    pub is_synced: bool,
    /// Sessions there are.
    pub peers: usize,
    /// Peers that are being asked.
    pub peers_asked: usize,
    /// Channels that are still to be asked for or to be held against the chain.
    pub left: usize,
}

impl GossipStatus {
    /// Why the graph is not complete, in words; empty where it is. Own channels can be used all the same.
    pub fn reason(&self) -> String {
        match (self.is_synced && self.left == 0, self.peers, self.peers_asked) {
            (true, ..) => String::new(),
            (false, 0, _) => "no peer is connected that could tell".to_owned(),
            (false, _, 0) if self.left == 0 => "no peer answers queries yet".to_owned(),
            (false, _, asked) => format!("asking {asked} peers: {} channels to go", self.left),
        }
    }
}
