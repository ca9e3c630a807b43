//! The edges into each node, side by side: what a search backwards from the payee reads.
//!
//! Nodes that follow each other share a page of about a thousand edges, so that a change copies some 50 KB at most, or the
//! edges of one hub.

use std::sync::Arc;

use super::edge::{ChannelIndex, Edge};

/// A page with more edges is cut in two, unless they are all of one node.
const MOST_EDGES: usize = 1_024;
/// A page with more nodes takes no further one.
const MOST_NODES: u32 = 256;

/// Where the edges into a node are.
#[derive(Clone, Copy, Debug)]
struct Row {
    page: u32,
    start: u32,
    length: u32,
}

#[derive(Clone, Debug)]
struct Page {
    /// The nodes whose edges these are, one after the other.
    first: u32,
    last: u32,
    edges: Vec<Edge>,
}

/// The edges of the whole graph by the node they lead to; those of one node rise by channel.
#[derive(Clone, Debug, Default)]
pub struct Adjacency {
    rows: Arc<Vec<Row>>,
    pages: Vec<Arc<Page>>,
}

impl Adjacency {
    /// That of `nodes` nodes with those edges, each with the node that it leads to, in rising order of channels.
    pub fn build(nodes: usize, edges: &[(u32, Edge)]) -> Adjacency {
        let mut starts = vec![0_usize; nodes + 1];
        edges.iter().for_each(|(target, _)| starts[*target as usize + 1] += 1);
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut order = vec![0_u32; edges.len()];
        let mut next = starts.clone();
        for (number, (target, _)) in edges.iter().enumerate() {
            order[next[*target as usize]] = number as u32;
            next[*target as usize] += 1;
        }
        let mut adjacency = Adjacency::default();
        let mut rows = Vec::with_capacity(nodes);
        let mut first = 0;
        while first < nodes {
            let mut end = first + 1;
            while end < nodes && end - first < MOST_NODES as usize && starts[end + 1] - starts[first] <= MOST_EDGES {
                end += 1;
            }
            let page = adjacency.pages.len() as u32;
            let length = |node: usize| (starts[node + 1] - starts[node]) as u32;
            rows.extend((first..end).map(|node| Row {
                page,
                start: (starts[node] - starts[first]) as u32,
                length: length(node),
            }));
            let edges = order[starts[first]..starts[end]].iter().map(|number| edges[*number as usize].1).collect();
            adjacency.pages.push(Arc::new(Page { first: first as u32, last: end as u32 - 1, edges }));
            first = end;
        }
        adjacency.rows = Arc::new(rows);
        adjacency
    }

    /// The edges into the node.
    pub fn edges_into(&self, node: usize) -> &[Edge] {
        let Some(row) = self.rows.get(node) else { return &[] };
        let start = row.start as usize;
        &self.pages[row.page as usize].edges[start..start + row.length as usize]
    }

    /// The edge into the node over the channel.
    pub fn edge(&self, target: usize, channel: ChannelIndex) -> Option<&Edge> {
        let edges = self.edges_into(target);
        edges.binary_search_by_key(&channel, |edge| edge.channel).ok().map(|at| &edges[at])
    }

    /// Adds a node without edges, with the next index.
    pub fn push_node(&mut self) {
        let node = self.rows.len() as u32;
        let last = self.pages.len().checked_sub(1).filter(|last| {
            let page = &self.pages[*last];
            // Cutting puts later nodes on the last page, so it may end before the last node.
            page.last + 1 == node && page.last - page.first < MOST_NODES && page.edges.len() < MOST_EDGES
        });
        let row = match last {
            Some(last) => {
                let page = Arc::make_mut(&mut self.pages[last]);
                page.last = node;
                Row { page: last as u32, start: page.edges.len() as u32, length: 0 }
            }
            None => {
                self.pages.push(Arc::new(Page { first: node, last: node, edges: Vec::new() }));
                Row { page: self.pages.len() as u32 - 1, start: 0, length: 0 }
            }
        };
        Arc::make_mut(&mut self.rows).push(row);
    }

    /// Sets the edge into `target` over the channel of `edge`: in the place of the old one, or as a new one.
    pub fn set(&mut self, target: usize, edge: Edge) {
        let row = self.rows[target];
        let found = self.edges_into(target).binary_search_by_key(&edge.channel, |edge| edge.channel);
        let page = Arc::make_mut(&mut self.pages[row.page as usize]);
        match found {
            Ok(at) => page.edges[row.start as usize + at] = edge,
            Err(at) => {
                page.edges.insert(row.start as usize + at, edge);
                let (last, length) = (page.last as usize, page.edges.len());
                let splits = length > MOST_EDGES && page.first < page.last;
                let rows = Arc::make_mut(&mut self.rows);
                rows[target].length += 1;
                rows[target + 1..=last].iter_mut().for_each(|row| row.start += 1);
                if splits {
                    self.split(row.page as usize);
                }
            }
        }
    }

    /// Takes out the edge into `target` over the channel.
    pub fn remove(&mut self, target: usize, channel: ChannelIndex) -> Option<Edge> {
        let row = self.rows[target];
        let at = self.edges_into(target).binary_search_by_key(&channel, |edge| edge.channel).ok()?;
        let page = Arc::make_mut(&mut self.pages[row.page as usize]);
        let edge = page.edges.remove(row.start as usize + at);
        let last = page.last as usize;
        let rows = Arc::make_mut(&mut self.rows);
        rows[target].length -= 1;
        rows[target + 1..=last].iter_mut().for_each(|row| row.start -= 1);
        Some(edge)
    }

    /// Cuts a page of more than one node in two, near the middle of its edges.
    fn split(&mut self, number: usize) {
        let new = self.pages.len() as u32;
        let page = Arc::make_mut(&mut self.pages[number]);
        let rows = Arc::make_mut(&mut self.rows);
        let (first, last) = (page.first as usize, page.last as usize);
        let half = page.edges.len() as u32 / 2;
        let cut = first + 1 + rows[first + 1..last].partition_point(|row| row.start < half);
        let from = rows[cut].start;
        let edges = page.edges.split_off(from as usize);
        page.last = cut as u32 - 1;
        for row in &mut rows[cut..=last] {
            row.page = new;
            row.start -= from;
        }
        self.pages.push(Arc::new(Page { first: cut as u32, last: last as u32, edges }));
    }
}
