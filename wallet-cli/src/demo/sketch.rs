//! A network as a picture: in the terminal, drawn in Braille dots, and as SVG. The nodes stand on an ellipse, in order.

use std::f64::consts::TAU;
use std::fmt::Write;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The channels.
    pub channels: Vec<Line>,
}

/// One channel.
#[derive(Clone, Debug)]
pub struct Line {
    /// The node that opened it, by its place.
    pub from: usize,
    /// The other one.
    pub to: usize,
    /// What it holds, in satoshi.
    pub capacity_sat: u64,
    /// How much of that is the opener's, in satoshi.
    pub from_sat: u64,
}

const COLUMNS: usize = 76;
const ROWS: usize = 22;
/// Dots in a character of Braille.
const DOTS: (usize, usize) = (2, 4);
/// Bits of U+2800 by column and row.
const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

const SVG_SIZE: f64 = 720.0;
const SVG_RADIUS: f64 = 280.0;
const OPENER: &str = "#f7931a";
const ACCEPTER: &str = "#4a6fa5";

impl Sketch {
    /// For a terminal of 80 columns.
    pub fn to_terminal(&self) -> String {
        let mut dots = vec![[0u8; COLUMNS]; ROWS];
        let (width, height) = ((COLUMNS * DOTS.0) as f64, (ROWS * DOTS.1) as f64);
        let place = |at: usize| {
            let (x, y) = self.place(at);
            (width / 2.0 + x * width * 0.40, height / 2.0 + y * height * 0.44)
        };
        for line in &self.channels {
            draw(&mut dots, place(line.from), place(line.to));
        }
        let mut text: Vec<Vec<char>> = dots
            .iter()
            .map(|row| row.iter().map(|bits| if *bits == 0 { ' ' } else { braille(*bits) }).collect())
            .collect();
        for (at, name) in self.nodes.iter().enumerate() {
            let (x, y) = place(at);
            let label: Vec<char> = format!(" {name} ").chars().take(COLUMNS).collect();
            let row = (y as usize / DOTS.1).min(ROWS - 1);
            let column = (x as usize / DOTS.0).saturating_sub(label.len() / 2).min(COLUMNS - label.len());
            text[row][column..column + label.len()].copy_from_slice(&label);
        }
        let lines = text.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_string());
        lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_string()
    }

    /// For a browser. Each channel has two colours: as far from each end as that end's share goes.
    pub fn to_svg(&self) -> String {
        let half = SVG_SIZE / 2.0;
        let place = |at: usize| {
            let (x, y) = self.place(at);
            (half + x * SVG_RADIUS, half + y * SVG_RADIUS)
        };
        let most = self.channels.iter().map(|line| line.capacity_sat).max().unwrap_or(1).max(1) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SVG_SIZE} {SVG_SIZE}\" font-family=\"sans-serif\" \
             font-size=\"15\" text-anchor=\"middle\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        for line in &self.channels {
            let ((x1, y1), (x2, y2)) = (place(line.from), place(line.to));
            let share = line.from_sat as f64 / line.capacity_sat.max(1) as f64;
            let (x, y) = (x1 + (x2 - x1) * share, y1 + (y2 - y1) * share);
            let width = 2.0 + 6.0 * line.capacity_sat as f64 / most;
            stroke(&mut svg, (x1, y1), (x, y), width, OPENER);
            stroke(&mut svg, (x, y), (x2, y2), width, ACCEPTER);
        }
        for (at, name) in self.nodes.iter().enumerate() {
            let (x, y) = place(at);
            let name = escape(name);
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"30\" fill=\"#fff7e6\" stroke=\"#333\" stroke-width=\"2\"/>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\">{name}</text>",
                y + 5.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// On the unit circle, the first one on top.
    fn place(&self, at: usize) -> (f64, f64) {
        let angle = TAU * at as f64 / self.nodes.len().max(1) as f64;
        (angle.sin(), -angle.cos())
    }
}

fn stroke(svg: &mut String, from: (f64, f64), to: (f64, f64), width: f64, colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn draw(dots: &mut [[u8; COLUMNS]], from: (f64, f64), to: (f64, f64)) {
    let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
    for step in 0..=steps as usize {
        let part = step as f64 / steps;
        let (x, y) = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
        let (x, y) = (x.max(0.0) as usize, y.max(0.0) as usize);
        if let Some(cell) = dots.get_mut(y / DOTS.1).and_then(|row| row.get_mut(x / DOTS.0)) {
            *cell |= BITS[x % DOTS.0][y % DOTS.1];
        }
    }
}

fn braille(bits: u8) -> char {
    char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(nodes: usize) -> Sketch {
        let line = |from| Line { from, to: (from + 1) % nodes, capacity_sat: 1_000, from_sat: 400 };
        Sketch { nodes: (0..nodes).map(|at| format!("n{at}")).collect(), channels: (0..nodes).map(line).collect() }
    }

    #[test]
    fn every_node_is_named_and_lines_are_drawn() {
        for nodes in [2, 3, 10, 26] {
            let picture = ring(nodes).to_terminal();
            assert!((0..nodes).all(|at| picture.contains(&format!(" n{at} ")) || picture.contains(&format!(" n{at}"))));
            assert!(picture.chars().any(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter)));
            assert!(picture.lines().all(|line| line.chars().count() <= COLUMNS));
        }
    }

    #[test]
    fn an_svg_has_two_strokes_a_channel_and_no_markup_in_names() {
        let mut sketch = ring(5);
        sketch.nodes[0] = "<b>&".into();
        let svg = sketch.to_svg();
        assert_eq!(svg.matches("<line").count(), 10);
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(svg.contains("&lt;b&gt;&amp;") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(Sketch::default().to_terminal(), "");
    }
}
