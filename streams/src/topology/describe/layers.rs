//! Places boxes in layers from top to bottom, and the lines between them. Pure.
//!
//! ```text
//!   +-----+   +-------+     layer 0
//!   +--|--+   +---|---+
//!       \        / \        lines cross only here, between two layers
//!      +-------+    :       a line that passes a layer has a lane of its own in it
//!      +---|---+    :       layer 1
//!           \      /
//!          +--------+       layer 2
//! ```
//!
//! Why not an engine: the graphs are small, the picture must be the same on every machine, and nobody
//! should have to install a program to see a topology.
//!
//! Invariants
//! * boxes do not overlap, and no line crosses a box;
//! * only whole numbers, only the order of the input: the same input is placed the same way;
//! * a cycle does not hang it: the line that closes it is drawn upwards.
//!
//! Reference: Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
//! Structures" (1981); positions by isotonic regression (pool adjacent violators).

/// Between two boxes of a layer, and between two layers.
const GAP_X: i64 = 28;
const GAP_Y: i64 = 36;
/// What a lane takes in a layer.
const LANE_WIDTH: i64 = 6;
/// How often the layers are put in order, and in place.
const ORDER_SWEEPS: usize = 8;
const PLACE_SWEEPS: usize = 12;
/// Up to so many parts of lines neighbours are exchanged one by one, which takes their square.
const EXCHANGED_SEGMENTS_MAX: usize = 200;

/// Where in the picture an item wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    /// As high as what comes before it lets it.
    Up,
    /// In the last layer.
    Bottom,
    /// Right above what takes its records.
    Near,
}

/// A box.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) pull: Pull,
}

/// A line from the bottom of a box to the top of another; where it starts and ends, from their left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) from_x: i64,
    pub(super) to_x: i64,
}

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Left and top of each box.
    pub(super) boxes: Vec<(i64, i64)>,
    /// The points of each line. From one to the next it runs down a box or a lane where they have the
    /// same x, and through the space between two layers otherwise.
    pub(super) lines: Vec<Vec<(i64, i64)>>,
    pub(super) width: i64,
    pub(super) height: i64,
}

/// A box, or the lane of a line in a layer that it passes.
struct Slot {
    width: i64,
    height: i64,
    layer: usize,
    x: i64,
}

/// A part of a line, from a slot to one in the next layer.
struct Segment {
    from: usize,
    to: usize,
    from_x: i64,
    to_x: i64,
}

/// Places the boxes.
pub(super) fn place(items: &[Item], lines: &[Line]) -> Placed {
    let upward = closes_a_cycle(items.len(), lines);
    let down: Vec<Line> = lines.iter().zip(&upward).map(|(line, &up)| turned(line, up)).collect();
    let layers = layers_of(items, &down);
    let mut drawing = Drawing::new(items, &down, &layers);
    drawing.order();
    drawing.spread();
    drawing.finish(items.len(), &upward)
}

fn turned(line: &Line, up: bool) -> Line {
    if up {
        Line { from: line.to, to: line.from, from_x: line.to_x, to_x: line.from_x }
    } else {
        *line
    }
}

/// Which lines lead back to where a walk from the first box on has come from.
fn closes_a_cycle(count: usize, lines: &[Line]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Open,
        Done,
    }
    let mut seen = vec![Seen::No; count];
    let mut upward = vec![false; lines.len()];
    for start in 0..count {
        let mut path = vec![(start, 0)];
        if seen[start] != Seen::No {
            continue;
        }
        seen[start] = Seen::Open;
        while let Some((at, next)) = path.pop() {
            let Some(line) = (next..lines.len()).find(|&line| lines[line].from == at) else {
                seen[at] = Seen::Done;
                continue;
            };
            path.push((at, line + 1));
            let to = lines[line].to;
            match seen[to] {
                Seen::Open => upward[line] = true,
                Seen::No => {
                    seen[to] = Seen::Open;
                    path.push((to, 0));
                }
                Seen::Done => {}
            }
        }
    }
    upward
}

/// The layer of each item: below all that it takes from.
fn layers_of(items: &[Item], lines: &[Line]) -> Vec<usize> {
    let mut layers = vec![0_usize; items.len()];
    // The longest path has as many steps as there are items at most.
    for _ in 0..items.len() {
        let mut moved = false;
        for line in lines.iter().filter(|line| line.from != line.to) {
            let below = layers[line.from] + 1;
            if layers[line.to] < below {
                layers[line.to] = below;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let last = layers.iter().copied().max().unwrap_or(0);
    for (index, item) in items.iter().enumerate() {
        let goes_on = lines.iter().filter(|line| line.from == index && line.to != index);
        match item.pull {
            Pull::Bottom => layers[index] = last,
            Pull::Near if !lines.iter().any(|line| line.to == index) => {
                let nearest = goes_on.map(|line| layers[line.to]).min();
                layers[index] = nearest.map_or(0, |layer| layer.saturating_sub(1));
            }
            _ => {}
        }
    }
    layers
}

struct Drawing {
    slots: Vec<Slot>,
    segments: Vec<Segment>,
    /// The segments of each line, from its upper end on.
    routes: Vec<Vec<usize>>,
    /// The slots of each layer, from left to right.
    layers: Vec<Vec<usize>>,
}

impl Drawing {
    fn new(items: &[Item], lines: &[Line], of: &[usize]) -> Self {
        let slots = items.iter().zip(of);
        let slots = slots.map(|(i, &layer)| Slot { width: i.width, height: i.height, layer, x: 0 });
        let mut drawing = Self {
            slots: slots.collect(),
            segments: Vec::new(),
            routes: Vec::new(),
            layers: vec![Vec::new(); of.iter().max().map_or(0, |last| last + 1)],
        };
        for line in lines {
            let route = drawing.route(line);
            drawing.routes.push(route);
        }
        for slot in 0..drawing.slots.len() {
            drawing.layers[drawing.slots[slot].layer].push(slot);
        }
        drawing
    }

    /// Gives a line its segments, with a lane in each layer that it passes.
    fn route(&mut self, line: &Line) -> Vec<usize> {
        let (mut from, mut from_x) = (line.from, line.from_x);
        let (first, last) = (self.slots[line.from].layer + 1, self.slots[line.to].layer);
        let mut route = Vec::new();
        for layer in first..last {
            self.slots.push(Slot { width: LANE_WIDTH, height: 0, layer, x: 0 });
            let to = self.slots.len() - 1;
            route.push(self.segments.len());
            self.segments.push(Segment { from, to, from_x, to_x: LANE_WIDTH / 2 });
            (from, from_x) = (to, LANE_WIDTH / 2);
        }
        if first <= last {
            route.push(self.segments.len());
            self.segments.push(Segment { from, to: line.to, from_x, to_x: line.to_x });
        }
        route
    }

    /// Where the other ends of the segments above or below each slot are.
    fn neighbours(&self, above: bool, x_of: impl Fn(usize, i64) -> i64) -> Vec<Vec<i64>> {
        let mut found = vec![Vec::new(); self.slots.len()];
        for segment in &self.segments {
            if above {
                found[segment.to].push(x_of(segment.from, segment.from_x) - segment.to_x);
            } else {
                found[segment.from].push(x_of(segment.to, segment.to_x) - segment.from_x);
            }
        }
        found
    }

    /// Puts the slots of each layer in the order of what they are connected to; of the orders on the
    /// way, the one in which the fewest lines cross is kept.
    fn order(&mut self) {
        self.exchange();
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..ORDER_SWEEPS {
            self.order_by_neighbours(sweep % 2 == 0);
            self.exchange();
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
        self.pack();
    }

    fn order_by_neighbours(&mut self, above: bool) {
        for step in 0..self.layers.len() {
            let layer = if above { step } else { self.layers.len() - 1 - step };
            self.pack();
            let wanted = self.neighbours(above, |slot, x| self.slots[slot].x + x);
            let slots = &self.slots;
            self.layers[layer].sort_by_key(|&slot| {
                let half = slots[slot].width / 2;
                mean(&wanted[slot]).unwrap_or(slots[slot].x) + half
            });
        }
    }

    /// Exchanges neighbours in a layer where fewer lines cross then, until there are none.
    fn exchange(&mut self) {
        let mut exchanged = self.segments.len() <= EXCHANGED_SEGMENTS_MAX;
        // Each exchange leaves fewer crossings, so there is an end.
        while std::mem::take(&mut exchanged) {
            for layer in 0..self.layers.len() {
                for right in 1..self.layers[layer].len() {
                    let before = self.crossings_at(layer);
                    self.layers[layer].swap(right - 1, right);
                    if self.crossings_at(layer) < before {
                        exchanged = true;
                    } else {
                        self.layers[layer].swap(right - 1, right);
                    }
                }
            }
        }
    }

    fn crossings(&self) -> usize {
        (0..self.layers.len()).map(|layer| self.crossings_below(layer)).sum()
    }

    fn crossings_at(&self, layer: usize) -> usize {
        let above = layer.checked_sub(1).map_or(0, |above| self.crossings_below(above));
        above + self.crossings_below(layer)
    }

    /// How many pairs of lines cross between a layer and the next.
    fn crossings_below(&self, layer: usize) -> usize {
        let Some(next) = self.layers.get(layer + 1) else { return 0 };
        let mut places = vec![0; self.slots.len()];
        for list in [&self.layers[layer], next] {
            list.iter().enumerate().for_each(|(place, &slot)| places[slot] = place);
        }
        let ends = |s: &Segment| ((places[s.from], s.from_x), (places[s.to], s.to_x));
        let segments = self.segments.iter().filter(|s| self.slots[s.from].layer == layer);
        let ends: Vec<_> = segments.map(ends).collect();
        let crossed = |i: usize| {
            let (top, bottom) = ends[i];
            let others = ends[i + 1..].iter();
            others.filter(|&&(t, b)| (t < top && b > bottom) || (t > top && b < bottom)).count()
        };
        (0..ends.len()).map(crossed).sum()
    }

    /// Puts the slots of each layer side by side.
    fn pack(&mut self) {
        for layer in &self.layers {
            let mut x = 0;
            for &slot in layer {
                self.slots[slot].x = x;
                x += self.slots[slot].width + GAP_X;
            }
        }
    }

    /// Moves slots below and above what they are connected to, as far as their neighbours let them.
    fn spread(&mut self) {
        for sweep in 0..PLACE_SWEEPS {
            let above = sweep % 2 == 0;
            for step in 0..self.layers.len() {
                let layer = if above { step } else { self.layers.len() - 1 - step };
                let wanted = self.neighbours(above, |slot, x| self.slots[slot].x + x);
                let slots = &self.layers[layer];
                let mut before = 0;
                let mut offsets = Vec::with_capacity(slots.len());
                let mut values = Vec::with_capacity(slots.len());
                for &slot in slots {
                    offsets.push(before);
                    values.push(mean(&wanted[slot]).unwrap_or(self.slots[slot].x) - before);
                    before += self.slots[slot].width + GAP_X;
                }
                for ((&slot, x), offset) in slots.iter().zip(ascending(&values)).zip(offsets) {
                    self.slots[slot].x = x + offset;
                }
            }
        }
    }

    fn finish(mut self, items: usize, upward: &[bool]) -> Placed {
        let left = self.slots.iter().map(|slot| slot.x).min().unwrap_or(0);
        self.slots.iter_mut().for_each(|slot| slot.x -= left);
        let mut tops = Vec::with_capacity(self.layers.len());
        let mut y = 0;
        for layer in &self.layers {
            let height = layer.iter().map(|&slot| self.slots[slot].height).max().unwrap_or(0);
            tops.push((y, y + height));
            y += height + GAP_Y;
        }
        let lines = self.routes.iter().zip(upward).map(|(route, &up)| {
            let mut points = Vec::new();
            for &segment in route {
                let Segment { from, to, from_x, to_x } = self.segments[segment];
                let (top, bottom) = tops[self.slots[from].layer];
                let x = self.slots[from].x + from_x;
                points.extend([(x, top + self.slots[from].height), (x, bottom)]);
                points.push((self.slots[to].x + to_x, tops[self.slots[to].layer].0));
            }
            points.dedup();
            if up {
                points.reverse();
            }
            points
        });
        Placed {
            lines: lines.collect(),
            boxes: self.slots[..items].iter().map(|s| (s.x, tops[s.layer].0)).collect(),
            width: self.slots.iter().map(|slot| slot.x + slot.width).max().unwrap_or(0),
            height: (y - GAP_Y).max(0),
        }
    }
}

fn mean(list: &[i64]) -> Option<i64> {
    let count = i64::try_from(list.len()).ok().filter(|&count| count > 0)?;
    Some(list.iter().sum::<i64>().div_euclid(count))
}

/// The ascending sequence nearest to `values`: those that are out of order share their mean.
fn ascending(values: &[i64]) -> Vec<i64> {
    let mut pools: Vec<(i64, i64)> = Vec::new();
    for &value in values {
        let mut pool = (value, 1);
        while let Some(&(sum, count)) = pools.last()
            && sum.div_euclid(count) > pool.0.div_euclid(pool.1)
        {
            pools.pop();
            pool = (pool.0 + sum, pool.1 + count);
        }
        pools.push(pool);
    }
    let each = |(sum, count): (i64, i64)| (0..count).map(move |_| sum.div_euclid(count));
    pools.into_iter().flat_map(each).collect()
}
