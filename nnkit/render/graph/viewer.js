// @ts-check
// The picture of a model. Written by hand, without a library; nnkit puts it into the page without its comments
// and indentation, so no string here runs over several lines.
//
// data -> steps (a tree) -> place (coordinates of what is open) -> draw (SVG, only what is in view).
// Every text from the model is set as textContent, so that a hostile name stays a name.

/**
 * A tensor within one group. source -1: it comes from outside; a target past the last child: it leaves.
 * @typedef {{source: number, tensor: number, label: string, changes: boolean, rail: number | null, targets: number[], bundle?: Wire[]}} Wire
 */

/**
 * A tensor's line in the coordinates of its group; x, y: where its label is.
 * @typedef {{d: string, heads: string, tensor: number, source: Step | null, targets: Step[], far: boolean,
 *   label: string, x: number, y: number, box: number[]}} Line
 */

/**
 * What of a group is drawn: all of it, or the first of the blocks that repeat.
 * @typedef {{items: Step[], ranks: number[], lanes: number[], wires: Wire[]}} Contents
 */

const INPUT = 0
const OUTPUT = 1
const FUNCTION = 3
const CONSTANT = 4
const GROUP = 5
const REPEAT = 6
const OTHER = 10
const SVG = 'http://www.w3.org/2000/svg'

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id)

const data = JSON.parse($('data').textContent)
/** @type {Record<string, number[]>} */
const columns = {}
for (const [name, column] of Object.entries(data.boxes)) {
  columns[name] = Array.isArray(column)
    ? column
    : Array.from({ length: data.size }, (_, row) => column[row] ?? column[''])
}

// ---------------------------------------------------------------------------------------------- steps

/** A box of the scene. A step inside a block that is like an earlier one is made when it is first needed. */
class Step {
  /** @param {number} index @param {Step | null} parent @param {string} key @param {Step | null} like */
  constructor(index, parent, key, like) {
    this.index = index
    this.parent = parent
    this.key = key
    this.like = like
    this.kind = columns.kind[index]
    this.title = text(columns.title[index])
    this.type = text(columns.subtitle[index])
    this.family = columns.family[index]
    this.times = columns.times[index]
    /** @type {Step[]} */ this.children = []
    this.isRead = !like
    this.isOpen = false
    this.isUnfolded = false
    this.x = this.y = this.w = this.h = this.spine = 0
    this.left = this.top = 0
    this.isStale = true
    /** @type {Line[]} */ this.lines = []
    /** @type {Map<number, number>} */ this.entries = new Map()
    /** @type {Map<number, number>} */ this.exits = new Map()
    byKey.set(key, this)
    if (data.pair) partners.set(key.replace(/×\d+/g, ''), this)
  }

  get isGroup() {
    return this.kind >= GROUP
  }

  /** Returns what is inside; made from the block that this one is like, with keys of its own. */
  get inside() {
    if (!this.isRead && this.like) {
      this.isRead = true
      const { key } = this.like
      for (const child of this.like.inside) {
        const rest = child.key.startsWith(key) ? child.key.slice(key.length) : `/${child.key}`
        this.children.push(new Step(child.index, this, this.key + rest, child))
      }
    }
    return this.children
  }

  /** @returns {Step[]} this step and all that are above it, from the model down */
  get trail() {
    return this.parent ? [...this.parent.trail, this] : [this]
  }

  get depth() {
    return this.trail.length - 1
  }

  get path() {
    return this.name.replace(/([~×]\d+|…)$/, '')
  }

  /** The key within its own model. */
  get name() {
    return data.pair ? this.key.slice(2) : this.key
  }

  /** What is the same step in the other of two models. */
  get other() {
    const name = this.key.replace(/×\d+/g, '')
    return partners.get((name[0] === 'a' ? 'b' : 'a') + name.slice(1))
  }

  /** How it differs from the same step in the other of two models. */
  get difference() {
    if (!data.pair || this.depth < 2) return ''
    const { other } = this
    if (!other) return 'only'
    const same = ['macs', 'params', 'subtitle', 'gives', 'times'].every(
      (name) => (columns[name] ?? [])[this.index] === (columns[name] ?? [])[other.index]
    )
    return same ? '' : 'changed'
  }

  /** @param {string} name */
  number(name) {
    return columns[name]?.[this.index] || 0
  }

  /** @param {string} name */
  words(name) {
    return text(columns[name][this.index])
  }

  /** @param {string} name */
  shareOf(name) {
    return this.number(name) / (columns[name]?.[0] || 1)
  }

  /** The share of the whole by the kind of heat that is shown. */
  get share() {
    return this.shareOf(heat)
  }
}

/** @type {Map<string, Step>} */
const byKey = new Map()
/** The steps of two models by their keys without the number of blocks. @type {Map<string, Step>} */
const partners = new Map()
let heat = data.heat

/** @param {number} index */
function text(index) {
  return data.strings[index]
}

/** Reads the tree, which is stored a caller before what it calls. */
function readSteps() {
  let next = 0
  const all = /** @type {Step[]} */ ([])
  /** @param {Step | null} parent @returns {Step} */
  const read = (parent) => {
    const index = next++
    const name = text(columns.key[index])
    const key = name[0] === '.' && parent ? parent.key + name : name.slice(1)
    const like = columns.like[index]
    const step = new Step(index, parent, key, like < 0 ? null : all[like])
    all[index] = step
    for (let i = columns.count[index]; i > 0; i--) step.children.push(read(step))
    return step
  }
  return read(null)
}

const root = readSteps()
root.isOpen = true
let selected = root

/** The ranks, lanes and wires of a group; a plain chain has only wires. @param {Step} step @returns {{ranks?: number[], lanes?: number[], wires: Wire[]}} */
function groupOf(step) {
  let source = step
  while (source.like) source = source.like
  return (groups[source.index] ??= unpack(data.groups[source.index]))
}

/** @type {Record<number, ReturnType<typeof unpack>>} */
const groups = {}

/** @param {any} packed */
function unpack(packed) {
  const [wires, ranks, lanes] = packed ?? [[]]
  return {
    ranks,
    lanes,
    wires: wires.map((/** @type {any[]} */ [source, tensor, label, rail, ...targets]) => ({
      source,
      tensor,
      label: text(label >> 1),
      changes: (label & 1) === 1,
      rail,
      targets
    }))
  }
}

/** @param {Step} group @returns {Contents} */
function contentsOf(group) {
  const items = group.inside
  const { wires, ranks = items.map((_, i) => i), lanes = items.map(() => 0) } = groupOf(group)
  if (group.kind !== REPEAT || group.isUnfolded) return { items, ranks, lanes, wires: bundled(wires) }
  const first = wires
    .filter((wire) => wire.source < 0 && wire.targets.includes(0))
    .map((wire) => ({ ...wire, rail: null, targets: [0] }))
  const last = wires
    .filter((wire) => wire.targets.includes(items.length) && wire.source >= 0)
    .map((wire) => ({ ...wire, source: 0, rail: null, targets: [1] }))
  return { items: items.slice(0, 1), ranks: [0], lanes: [0], wires: bundled([...first, ...last]) }
}

const MOST_ALONE = 3

/** Returns the wires with those as one that run from and to the same steps, if they are many. @param {Wire[]} wires */
function bundled(wires) {
  /** @type {Map<string, Wire[]>} */
  const same = new Map()
  for (const wire of wires) {
    const way = `${wire.source} ${wire.targets}`
    same.set(way, [...(same.get(way) ?? []), wire])
  }
  return [...same.values()].flatMap((list) => {
    if (list.length <= MOST_ALONE) return list
    const alike = list.every((wire) => wire.label === list[0].label)
    return {
      ...list[0],
      changes: true,
      bundle: list,
      label: alike ? `${list.length} of ${list[0].label}` : `${list.length} tensors`
    }
  })
}

// ---------------------------------------------------------------------------------------------- numbers

/** @param {number} number */
function exact(number) {
  return number.toLocaleString('en-US')
}

/** @param {number} number @param {number} base @param {string[]} units */
function scaled(number, base, units) {
  let unit = 0
  while (number >= base * 0.9995 && unit < units.length - 1) {
    number /= base
    unit++
  }
  const digits = unit === 0 || number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2
  return `${number.toFixed(digits)} ${units[unit]}`.trim()
}

/** @param {number} number */
const short = (number) => scaled(number, 1000, ['', 'k', 'M', 'G', 'T', 'P'])

/** @param {number} number */
const bytes = (number) => scaled(number, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'])

/** @param {number} seconds */
const time = (seconds) => scaled(seconds * 1e6, 1000, ['µs', 'ms', 's'])

/** @param {number} share */
function percent(share) {
  const hundredths = share * 100
  return hundredths && hundredths < 0.1 ? '<0.1%' : `${hundredths.toFixed(hundredths < 10 ? 1 : 0)}%`
}

/** @type {Record<string, {name: string, short: string, format: (number: number) => string}>} */
const HEATS = {
  macs: { name: 'MACs', short: 'MACs', format: short },
  params: { name: 'Parameters', short: 'Params', format: short },
  output: { name: 'Output bytes', short: 'Output', format: bytes },
  saved: { name: 'Saved for backward', short: 'Saved', format: bytes },
  time: { name: 'Time', short: 'Time', format: time }
}

// ---------------------------------------------------------------------------------------------- place

const FONT = getComputedStyle(document.body).fontFamily
const WIDEST = 250
const HEADER = 30
const PAD = 14
const GAP = 30
const RAIL = 9
const HEAD = 6

const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement('canvas').getContext('2d'))
/** @type {Map<string, number>} */
const widths = new Map()
let isDown = data.direction !== 'right'

/** @param {string} words @param {string} font */
function widthOf(words, font) {
  const name = font + words
  let width = widths.get(name)
  if (width === undefined) {
    pen.font = `${font} ${FONT}`
    width = pen.measureText(words).width
    widths.set(name, width)
  }
  return width
}

/** Cuts the middle out of words that are too wide. @param {string} words @param {string} font @param {number} room */
function fitted(words, font, room) {
  if (widthOf(words, font) <= room) return words
  let keep = Math.min(words.length, 80)
  while (keep > 4 && widthOf(cut(words, keep), font) > room) keep -= 2
  return cut(words, keep)
}

/** @param {string} words @param {number} keep */
function cut(words, keep) {
  const half = keep >> 1
  return `${words.slice(0, half)}…${words.slice(-half)}`
}

const TITLE = '600 12.5px'
const SMALL = '400 11px'

/** @param {Step} step */
function subtitle(step) {
  const value = step.share ? HEATS[heat].format(step.number(heat)) : ''
  return [step.type, step.kind === FUNCTION && !step.type ? '' : value].filter(Boolean).join(' · ')
}

/** @param {Step} step */
function measure(step) {
  const more = subtitle(step)
  const extra = (step.isGroup ? 20 : 0) + (step.times > 1 ? 16 + widthOf(`×${step.times}`, SMALL) : 0)
  const own = widthOf(step.title, TITLE) + extra + (hasDot(step) ? 12 : 0)
  step.w = Math.round(Math.min(WIDEST, Math.max(own, widthOf(more, SMALL)) + 26))
  if (more) step.w = Math.max(step.w, 96)
  step.h = more ? 44 : 28
  step.spine = (isDown ? step.w : step.h) / 2
}

/** @param {Step} step */
function hasDot(step) {
  return step.kind !== INPUT && step.kind !== OUTPUT && step.kind !== CONSTANT && !step.isGroup
}

/** Gives a step its size, and what is open inside it its place. @param {Step} step */
function place(step) {
  if (!step.isStale) return
  step.isStale = false
  if (step.isOpen) placeGroup(step)
  else measure(step)
}

/**
 * Where the lanes and ranks of a group begin and end. Across is x where the picture runs down.
 * @typedef {{lane: Map<number, number>, start: number[], end: number[], label: number[], size: number}} Grid
 */

/** @param {Step} group */
function placeGroup(group) {
  const contents = contentsOf(group)
  for (const item of contents.items) place(item)
  const inset = group === root ? 0 : PAD
  const header = group === root ? 0 : HEADER
  const first = isDown ? inset : header + inset / 2
  const grid = gridOf(contents, first, isDown ? header : 0)
  contents.items.forEach((item, i) => {
    const across = /** @type {number} */ (grid.lane.get(contents.lanes[i])) - item.spine
    const along = grid.start[contents.ranks[i]]
    item.x = isDown ? across : along
    item.y = isDown ? along : across
  })
  const length = grid.end[grid.end.length - 1]
  const title = widthOf(group.title, TITLE) + widthOf(subtitle(group), SMALL) + (group.times > 1 ? 130 : 50)
  const least = group === root ? 0 : Math.min(title, 330)
  const w = isDown ? grid.size + inset : length
  group.w = Math.max(w, least)
  group.h = isDown ? length : grid.size + inset
  const shift = isDown ? (group.w - w) / 2 : 0
  if (shift) for (const item of contents.items) item.x += shift
  if (shift) for (const [lane, at] of grid.lane) grid.lane.set(lane, at + shift)
  const middle = (isDown ? group.w : group.h) / 2
  group.spine = data.pair && group === root ? middle : (grid.lane.get(0) ?? middle)
  drawLines(group, contents, grid, isDown ? header : 0)
}

/**
 * Finds the columns of lanes, and the bands of ranks with the gaps between, in which labels are and lines turn.
 * @param {Contents} contents @param {number} first @param {number} top @returns {Grid}
 */
function gridOf(contents, first, top) {
  const room = roomOf(contents)
  const isEntered = contents.wires.some((wire) => wire.source < 0)
  return { ...columnsOf(room, first), ...bandsOf(room, top, isEntered), label: room.label }
}

/**
 * What a group needs: to both sides of each lane, and along each rank and in the gap before it.
 * @typedef {{sides: Map<number, number[]>, thick: number[], label: number[], turns: boolean[]}} Room
 */

/** @param {Contents} contents @returns {Room} */
function roomOf({ items, ranks, lanes, wires }) {
  /** @type {Map<number, number[]>} */
  const sides = new Map([[0, [0, 0]]])
  /** @param {number} lane @param {number} before @param {number} after */
  const widen = (lane, before, after) => {
    const side = sides.get(lane) ?? [0, 0]
    sides.set(lane, [Math.max(side[0], before), Math.max(side[1], after)])
  }
  const count = ranks.length ? Math.max(...ranks) + 1 : 0
  const thick = new Array(count).fill(0)
  const label = new Array(count + 1).fill(0)
  const turns = new Array(count + 1).fill(false)
  items.forEach((item, i) => {
    const [along, across] = isDown ? [item.h, item.w] : [item.w, item.h]
    widen(lanes[i], item.spine, across - item.spine)
    thick[ranks[i]] = Math.max(thick[ranks[i]], along)
  })
  const labels = new Labels(items)
  for (const wire of wires) {
    const rank = wire.source < 0 ? 0 : ranks[wire.source] + 1
    const near = nearest(wire, ranks, lanes, rank)
    const from = wire.source >= 0 ? lanes[wire.source] : near === undefined ? wire.rail : lanes[near]
    if (wire.rail !== null) {
      widen(wire.rail, RAIL, RAIL)
      if (wire.rail !== from) turns[rank] = true
    }
    for (const target of wire.targets) {
      const before = ranks[target] === rank ? from : wire.rail
      if (target < items.length && lanes[target] !== before) turns[ranks[target]] = true
    }
    const above = labels.add(wire)
    if (above !== null) {
      const width = widthOf(wire.label, SMALL) + 12
      const others = wires.filter((each) => each.source === wire.source).length - 1
      if (isDown) widen(lanes[wire.source], 0, width + 6 * others)
      label[rank] = Math.max(label[rank], isDown ? 14 * (above + 1) + 5 : width + 6)
    }
  }
  return { sides, thick, label, turns }
}

/** Puts the lanes beside each other. @param {Room} room @param {number} first */
function columnsOf({ sides }, first) {
  if (sides.size === 1 && isDown) {
    const most = Math.max(.../** @type {number[]} */ (sides.get(0)))
    sides.set(0, [most, most])
  }
  const lane = new Map()
  let size = first
  let wasRail = /** @type {boolean | null} */ (null)
  for (const number of [...sides.keys()].sort((a, b) => a - b)) {
    const [left, right] = /** @type {number[]} */ (sides.get(number))
    const isRail = left === RAIL && right === RAIL
    if (wasRail !== null) size += isRail && wasRail ? 2 : isRail || wasRail ? 12 : 28
    lane.set(number, size + left)
    size += left + right
    wasRail = isRail
  }
  return { lane, size }
}

/** Puts the ranks one after another. @param {Room} room @param {number} top @param {boolean} isEntered */
function bandsOf({ thick, label, turns }, top, isEntered) {
  const count = thick.length
  const start = []
  const end = [top]
  let along = top
  for (let rank = 0; rank <= count; rank++) {
    const isEdge = rank === 0 || rank === count
    const gap = isEdge ? (turns[rank] ? GAP : 18) : isDown ? (turns[rank] ? GAP + 6 : GAP - 4) : GAP
    along += (rank === 0 && top === 0 && !isEntered ? 0 : gap) + label[rank]
    start.push(along)
    along += thick[rank] ?? 0
    if (rank < count) end.push(along)
  }
  end.push(start[count])
  return { start, end }
}

/** The step in the next rank to which a line runs straightest. @param {Wire} wire @param {number[]} ranks @param {number[]} lanes @param {number} next */
function nearest(wire, ranks, lanes, next) {
  return wire.targets
    .filter((target) => ranks[target] === next)
    .sort((a, b) => Math.abs(lanes[a]) - Math.abs(lanes[b]))[0]
}

/** The labels of a group: what a step gives of one shape has one, where a box makes it and not where it leaves. */
class Labels {
  /** @param {Step[]} items */
  constructor(items) {
    this.items = items
    /** @type {Map<number, Set<string>>} */
    this.shown = new Map()
  }

  /** Returns how many labels are above that of a wire; null if it has none. @param {Wire} wire */
  add(wire) {
    const shown = this.shown.get(wire.source) ?? new Set()
    const isMade = wire.changes && wire.source >= 0 && !this.items[wire.source].isOpen
    if (!isMade || shown.has(wire.label)) return null
    this.shown.set(wire.source, shown.add(wire.label))
    return shown.size - 1
  }
}

/** @param {Step} group @param {Contents} contents @param {Grid} grid @param {number} top */
function drawLines(group, contents, grid, top) {
  const { items, ranks, wires } = contents
  const ports = portsOf(items, ranks, wires, grid)
  const labels = new Labels(items)
  group.entries = new Map()
  group.exits = new Map()
  group.lines = wires.map((wire) => {
    const source = wire.source < 0 ? null : items[wire.source]
    const begin = source ? alongOf(source) + lengthOf(source) : top
    const { trace, across, isFar } = traceOf(wire, group, contents, grid, ports, begin)
    const above = labels.add(wire)
    const right = source && above !== null ? ports.last(source) + 7 : 0
    return {
      d: trace.d,
      heads: trace.heads,
      box: trace.box,
      tensor: wire.tensor,
      source,
      targets: wire.targets.map((target) => items[target]).filter(Boolean),
      far: isFar,
      label: above === null ? '' : wire.label,
      x: isDown ? right : begin + 6,
      y: isDown ? begin + 15 + (above ?? 0) * 14 : across - 6
    }
  })
}

/**
 * Runs a line from its source to all its targets, and notes where it crosses the frame of its group.
 * @param {Wire} wire @param {Step} group @param {Contents} contents @param {Grid} grid
 * @param {ReturnType<typeof portsOf>} ports @param {number} begin where it begins, along
 */
function traceOf(wire, group, { items, ranks, lanes }, { lane, start, end, label }, ports, begin) {
  const way = start.length - 1 // the rank of the way out
  const next = wire.source < 0 ? 0 : ranks[wire.source] + 1
  const rankOf = (/** @type {number} */ target) => ranks[target] ?? way
  const isFar = wire.rail !== null && wire.targets.some((target) => rankOf(target) > next)
  const rail = isFar ? /** @type {number} */ (lane.get(/** @type {number} */ (wire.rail))) : 0
  const near = nearest(wire, ranks, lanes, next)
  const isRailOnly = isFar && near === undefined
  const into = () => (isRailOnly ? rail : ports.into(wire, near ?? wire.targets[0]))
  const across = wire.source < 0 ? into() : ports.from(wire)
  const tensors = (wire.bundle ?? [wire]).map((each) => each.tensor)
  if (wire.source < 0)
    for (const tensor of tensors) if (!group.entries.has(tensor)) group.entries.set(tensor, across)
  const trace = new Trace()
  /** Where lines turn in the gap before a rank. @param {number} rank */
  const turn = (rank) => end[rank] + label[rank]
  if (isFar) {
    const last = Math.max(...wire.targets.map(rankOf))
    const leaves = last === way && wire.targets.some((target) => target >= items.length)
    trace.from(across, begin).to(across, turn(next))
    trace.bend(rail, start[next] - HEAD).to(rail, leaves ? start[way] : turn(last))
  }
  for (const target of wire.targets) {
    const item = items[target]
    if (!item) {
      for (const tensor of tensors) group.exits.set(tensor, isFar ? rail : across)
      if (!isFar) trace.from(across, begin).to(across, start[way])
      continue
    }
    const rank = ranks[target]
    const to = ports.into(wire, target)
    if (isFar && rank > next) trace.from(rail, turn(rank))
    else trace.from(across, begin).to(across, turn(rank))
    trace.bend(to, start[rank] - HEAD).to(to, alongOf(item))
    if (!item.isOpen) trace.head()
  }
  return { trace, across, isFar }
}

/** Where a step begins to the side. @param {Step} item */
const acrossOf = (item) => (isDown ? item.x : item.y)

/** Where a step begins along the way. @param {Step} item */
const alongOf = (item) => (isDown ? item.y : item.x)

/** Where the main line of a step runs. @param {Step} item */
const middleOf = (item) => acrossOf(item) + item.spine

/** @param {Step} item */
const lengthOf = (item) => (isDown ? item.h : item.w)

/** Where lines meet boxes. @param {Step[]} items @param {number[]} ranks @param {Wire[]} wires @param {Grid} grid */
function portsOf(items, ranks, wires, grid) {
  /** @type {Map<Step, Arrival[]>} */
  const arriving = new Map()
  /** @type {Map<Step, Wire[]>} */
  const leaving = new Map()
  for (const wire of wires) {
    const source = items[wire.source]
    if (source) leaving.set(source, [...(leaving.get(source) ?? []), wire])
    for (const target of wire.targets) {
      const item = items[target]
      if (!item) continue
      const isNext = source && ranks[target] === ranks[wire.source] + 1
      const at = wire.rail !== null && !isNext ? grid.lane.get(wire.rail) : middleOf(source ?? item)
      arriving.set(item, [...(arriving.get(item) ?? []), { wire, at: /** @type {number} */ (at) }])
    }
  }
  /** @type {Map<Wire, Map<Step, number>>} */
  const places = new Map(wires.map((wire) => [wire, new Map()]))
  for (const [item, list] of arriving)
    for (const [{ wire }, at] of spread(item, list)) {
      const own = item.isOpen ? item.entries.get(wire.tensor) : undefined
      places.get(wire)?.set(item, own === undefined ? at : acrossOf(item) + own)
    }
  return {
    /** Where the last of the lines from a step begins. @param {Step} item */
    last: (item) => middleOf(item) + (((leaving.get(item)?.length ?? 1) - 1) / 2) * 12,
    /** @param {Wire} wire @param {number} target */
    into: (wire, target) => places.get(wire)?.get(items[target]) ?? grid.lane.get(0) ?? 0,
    /** @param {Wire} wire */
    from: (wire) => {
      const item = items[wire.source]
      const own = item.isOpen ? item.exits.get(wire.tensor) : undefined
      if (own !== undefined) return acrossOf(item) + own
      const list = /** @type {Wire[]} */ (leaving.get(item))
      return (
        middleOf(item) +
        (list.length > 1 && !item.isOpen ? (list.indexOf(wire) - (list.length - 1) / 2) * 12 : 0)
      )
    }
  }
}

/**
 * A line that ends at a step, and the place across from which it comes.
 * @typedef {{wire: Wire, at: number}} Arrival
 */

/**
 * Spreads lines over the side of a step: straight ones in the middle, others to the side from which they come.
 * @param {Step} item @param {Arrival[]} list @returns {[Arrival, number][]}
 */
function spread(item, list) {
  const center = middleOf(item)
  if (list.length === 1) return [[list[0], center]]
  const room = (isDown ? item.w : item.h) / 2 - 8
  const step = Math.min(9, room / Math.max(1, list.length / 2))
  const left = list.filter((each) => each.at < center - 1).sort((a, b) => b.at - a.at)
  const right = list.filter((each) => each.at > center + 1).sort((a, b) => a.at - b.at)
  const straight = list.filter((each) => Math.abs(each.at - center) <= 1)
  const shift = straight.length || left.length !== right.length ? 1 : 0.5
  return [
    ...straight.map((each, i) => at(each, (i % 2 ? 1 : -1) * Math.ceil(i / 2))),
    ...left.map((each, i) => at(each, -(i + shift))),
    ...right.map((each, i) => at(each, i + shift))
  ]

  /** @param {Arrival} each @param {number} steps @returns {[Arrival, number]} */
  function at(each, steps) {
    return [each, center + steps * step]
  }
}

/** Collects the path of a line, in coordinates across and along the picture. */
class Trace {
  constructor() {
    this.d = ''
    this.heads = ''
    this.c = 0
    this.a = 0
    this.box = [Infinity, Infinity, -Infinity, -Infinity]
  }

  /** Returns a point of the path. @param {number} c @param {number} a */
  xy(c, a) {
    const [x, y] = isDown ? [c, a] : [a, c]
    const box = this.box
    this.box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)]
    return `${Math.round(x * 10) / 10},${Math.round(y * 10) / 10}`
  }

  /** @param {number} c @param {number} a */
  from(c, a) {
    this.d += `M${this.xy(c, a)}`
    this.c = c
    this.a = a
    return this
  }

  /** @param {number} c @param {number} a */
  to(c, a) {
    if (a !== this.a || c !== this.c) this.d += `L${this.xy(c, a)}`
    this.c = c
    this.a = a
    return this
  }

  /** Goes to the side within a gap. @param {number} c @param {number} a */
  bend(c, a) {
    if (Math.abs(c - this.c) < 0.5) return this.to(c, a)
    const middle = (this.a + a) / 2
    this.d += `C${this.xy(this.c, middle)} ${this.xy(c, middle)} ${this.xy(c, a)}`
    this.c = c
    this.a = a
    return this
  }

  head() {
    const { c, a } = this
    this.heads += `M${this.xy(c, a)}L${this.xy(c - 3.2, a - HEAD)}L${this.xy(c + 3.2, a - HEAD)}Z`
  }
}

// ---------------------------------------------------------------------------------------------- draw

/** @param {string} name @param {Record<string, any>} attributes @param {Node[]} inside @returns {any} */
function svg(name, attributes = {}, inside = []) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  made.append(...inside)
  return made
}

/** @param {string} name @param {string} style @param {string | Node | (Node | string)[]} inside @returns {any} */
function html(name, style = '', inside = []) {
  const made = document.createElement(name)
  if (style) made.className = style
  made.append(...(Array.isArray(inside) ? inside : [inside]))
  return made
}

/** @param {any} node @param {string} name @param {string} value */
function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

/** @param {string} words @param {string} style @param {number} x @param {number} y */
function words(words, style, x, y) {
  return svg('text', { class: style, x, y }, [document.createTextNode(words)])
}

const CHEVRON = { false: 'M-2.5,-4 L2,0 L-2.5,4', true: 'M-4,-2.5 L0,2 L4,-2.5' }

/** What is drawn into one svg element: all of a picture, or only what is in view. */
class Canvas {
  /** @param {SVGElement} target */
  constructor(target) {
    this.target = target
    this.layers = ['frames', 'lines', 'cards', 'labels'].map((name) =>
      svg('g', { class: name, role: 'none' })
    )
    this.layers[1].setAttribute('aria-hidden', 'true')
    this.layers[3].setAttribute('aria-hidden', 'true')
    target.append(...this.layers)
    /** @type {Map<any, any>} */
    this.drawn = new Map()
    this.round = 0
  }

  /** @param {number[]} view left, top, right, bottom @param {number} scale */
  draw(view, scale) {
    this.round++
    this.visit(root, 0, 0, view, 3 / scale)
    for (const [key, one] of this.drawn) {
      if (one.round === this.round) continue
      for (const node of one.nodes) node.remove()
      this.drawn.delete(key)
    }
  }

  /** @param {Step} step @param {number} x @param {number} y @param {number[]} view @param {number} least */
  visit(step, x, y, view, least) {
    step.left = x
    step.top = y
    if (x > view[2] || y > view[3] || x + step.w < view[0] || y + step.h < view[1]) return
    if (step.h < least && step.w < least) return
    if (step !== root) this.show(step, x, y)
    if (!step.isOpen || step.h < least * 3) return
    for (const item of contentsOf(step).items) this.visit(item, x + item.x, y + item.y, view, least)
    for (const line of step.lines) {
      const [left, top, right, bottom] = line.box
      if (x + left > view[2] || y + top > view[3] || x + right < view[0] || y + bottom < view[1]) continue
      this.showLine(line, x, y)
    }
  }

  /** @param {any} key @param {string} stamp @param {() => any[]} make */
  take(key, stamp, make) {
    let one = this.drawn.get(key)
    if (one && one.stamp !== stamp) {
      for (const node of one.nodes) node.remove()
      one = undefined
    }
    if (!one) {
      one = { nodes: make(), stamp, round: 0 }
      this.drawn.set(key, one)
    }
    one.round = this.round
    return one
  }

  /** @param {Step} step @param {number} x @param {number} y */
  show(step, x, y) {
    const stamp = `${step.isOpen} ${step.isUnfolded} ${step.w} ${step.h} ${heat}`
    const warm = warmth(step).toFixed(3)
    const one = this.take(step, stamp, () => {
      const node = step.isOpen ? frameOf(step) : cardOf(step)
      this.layers[step.isOpen ? 0 : 2].append(node)
      return [node]
    })
    const [node] = one.nodes
    set(node, 'transform', `translate(${x},${y})`)
    const isHit = hits?.has(step)
    set(
      node,
      'class',
      [
        step.isOpen ? 'frame' : 'card',
        `kind${step.kind}`,
        `deep${step.depth % 2}`,
        step === selected ? 'selected' : '',
        step.difference,
        isHit ? 'hit' : ''
      ]
        .filter(Boolean)
        .join(' ')
    )
    set(node, 'aria-selected', String(step === selected))
    const glow = node.querySelector('.heat')
    if (glow) set(glow, 'fill-opacity', warm)
  }

  /** @param {Line} line @param {number} x @param {number} y */
  showLine(line, x, y) {
    const one = this.take(line, '', () => {
      const node = svg('g', {}, [
        svg('path', { class: 'wire', d: line.d }),
        svg('path', { class: 'head', d: line.heads })
      ])
      this.layers[1].append(node)
      if (!line.label) return [node]
      const label = words(line.label, 'shape', line.x, line.y)
      this.layers[3].append(label)
      return [node, label]
    })
    const isLit = selected !== root && (line.source === selected || line.targets.includes(selected))
    for (const node of one.nodes) set(node, 'transform', `translate(${x},${y})`)
    set(one.nodes[0], 'class', `line${line.far ? ' far' : ''}${isLit ? ' lit' : ''}`)
    if (isLit && !one.isLit) this.layers[1].append(one.nodes[0])
    one.isLit = isLit
  }
}

/** @param {Step} step @param {string} style @param {any[]} inside */
function item(step, style, inside) {
  const attributes = { class: style, role: 'treeitem', id: idOf(step), 'aria-level': step.depth }
  const node = svg(
    'g',
    attributes,
    inside.flatMap((each) => [each, document.createTextNode(' ')])
  )
  node.setAttribute('aria-label', node.textContent.trim().replace(/ +/g, ' '))
  if (step.isGroup) node.setAttribute('aria-expanded', String(step.isOpen))
  node.append(svg('title', {}, [document.createTextNode(step.name)]))
  steps.set(node, step)
  return node
}

/** @type {WeakMap<Element, Step>} */
const steps = new WeakMap()
/** @type {Map<Step, string>} */
const ids = new Map()

/** @param {Step} step */
function idOf(step) {
  const id = ids.get(step) ?? `step${ids.size}`
  ids.set(step, id)
  return id
}

/** The strength of the color: a square root, so that small shares can be told apart. @param {Step} step */
function warmth(step) {
  return 0.34 * Math.sqrt(Math.min(1, step.share / Math.max(hottest, 1e-9)))
}

/** @param {Step} step */
function cardOf(step) {
  const { w, h } = step
  const more = subtitle(step)
  const isRound = !more || step.kind === INPUT || step.kind === OUTPUT
  const rx = isRound ? Math.min(14, h / 2) : 8
  const inside = []
  if (step.isGroup) inside.push(svg('rect', { class: 'behind', x: 4, y: 4, width: w - 8, height: h, rx }))
  inside.push(svg('rect', { class: 'back', width: w, height: h, rx }))
  if (step.share) inside.push(svg('rect', { class: 'heat', width: w, height: h, rx }))
  const dot = hasDot(step) ? 12 : 0
  const badge = step.times > 1 ? widthOf(`×${step.times}`, SMALL) + 16 : 0
  const title = fitted(step.title, TITLE, w - 22 - dot - badge - (step.isGroup ? 18 : 0))
  const left = more ? 13 : (w - widthOf(title, TITLE) - dot - badge - (step.isGroup ? 16 : 0)) / 2
  const line = more ? 18.5 : h / 2 + 4.5
  if (dot)
    inside.push(svg('circle', { class: `dot family${step.family}`, cx: left + 3.5, cy: line - 4.5, r: 3.5 }))
  inside.push(words(title, 'title', left + dot, line))
  if (badge) inside.push(...badgeOf(step, left + dot + widthOf(title, TITLE) + 8, line))
  if (more) inside.push(words(fitted(more, SMALL, w - 24), 'more', left, 35))
  if (step.isGroup) inside.push(chevron(step, w - 14, line - 4.5))
  return item(step, 'card', inside)
}

/** @param {Step} step */
function frameOf(step) {
  const { w, h } = step
  const inside = [
    svg('rect', { class: 'back', width: w, height: h, rx: 10 }),
    svg('path', {
      class: 'band',
      d: `M0,${HEADER}V10A10,10 0 0 1 10,0H${w - 10}A10,10 0 0 1 ${w},10V${HEADER}Z`
    })
  ]
  const badge = step.times > 1 ? widthOf(`×${step.times}`, SMALL) + 20 : 0
  const title = fitted(step.title, TITLE, w - 50 - badge)
  const end = 28 + widthOf(title, TITLE)
  inside.push(chevron(step, 16, HEADER / 2), words(title, 'title', 28, 19.5))
  if (badge) inside.push(...badgeOf(step, end + 8, 19.5))
  const room = w - end - badge - 22 - (step.kind === REPEAT ? 74 : 0)
  const more = [subtitle(step), step.type].find((each) => each && widthOf(each, SMALL) <= room)
  if (more) inside.push(words(more, 'more', end + 8 + badge, 19.5))
  if (step.kind === REPEAT) {
    const name = step.isUnfolded ? 'fold' : 'unfold all'
    const at = w - 12 - widthOf(name, SMALL)
    inside.push(
      svg('g', { class: 'unfold' }, [
        svg('rect', { x: at - 8, y: 6, width: w - at + 2, height: 18, rx: 9 }),
        words(name, 'more', at, 19)
      ])
    )
  }
  return item(step, 'frame', inside)
}

/** @param {Step} step @param {number} x @param {number} y */
function badgeOf(step, x, y) {
  const name = `×${step.times}`
  return [
    svg('rect', { class: 'badge', x, y: y - 12, width: widthOf(name, SMALL) + 10, height: 16, rx: 8 }),
    words(name, 'times', x + 5, y - 0.5)
  ]
}

/** @param {Step} step @param {number} x @param {number} y */
function chevron(step, x, y) {
  return svg('g', { class: 'toggle', transform: `translate(${x},${y})` }, [
    svg('rect', { x: -11, y: -11, width: 22, height: 22, rx: 6 }),
    svg('path', { d: CHEVRON[/** @type {'true'} */ (String(step.isOpen))] })
  ])
}

// ---------------------------------------------------------------------------------------------- camera

const graph = $('graph')
const picture = $('picture')
const camera = svg('g', { role: 'none' })
picture.append(camera)
const canvas = new Canvas(camera)
const view = { x: 0, y: 0, scale: 1 }
let seen = [0, 0, 0, 0]
let seenScale = 0
let hottest = 1

function size() {
  return [graph.clientWidth, graph.clientHeight]
}

/** Moves the picture; draws again only if something comes into view that isn't drawn. */
function moved() {
  camera.setAttribute(
    'transform',
    `translate(${view.x.toFixed(2)},${view.y.toFixed(2)}) scale(${view.scale.toFixed(5)})`
  )
  const [w, h] = size()
  const [left, top] = [-view.x / view.scale, -view.y / view.scale]
  const [right, bottom] = [left + w / view.scale, top + h / view.scale]
  const isInside = left >= seen[0] && top >= seen[1] && right <= seen[2] && bottom <= seen[3]
  if (!isInside || seenScale !== view.scale) drawView()
  drawMap(left, top, right, bottom)
}

function drawView() {
  const [w, h] = size()
  const { x, y, scale } = view
  seenScale = scale
  seen = [(-x - w / 3) / scale, (-y - h / 3) / scale, (w * 1.34 - x) / scale, (h * 1.34 - y) / scale]
  picture.setAttribute('class', `picture ${scale < 0.2 ? 'tiny small' : scale < 0.45 ? 'small' : ''}`)
  canvas.draw(seen, scale)
  const id = ids.get(selected)
  if (selected !== root && id && $(id)) graph.setAttribute('aria-activedescendant', id)
  else graph.removeAttribute('aria-activedescendant')
}

/** Finds the places of what is open, and the largest share among what is closed. */
function settle() {
  place(root)
  hottest = 0
  for (const step of visible()) if (!step.isOpen) hottest = Math.max(hottest, step.share)
  $('scale').hidden = !hottest
  $('most').textContent = percent(hottest)
}

/** Finds the places again, and draws. */
function arrange() {
  settle()
  drawView()
  moved()
}

/** @param {Step} step */
function spoil(step) {
  for (const each of step.trail) each.isStale = true
}

/** @param {Step} step */
function spoilAll(step) {
  step.isStale = true
  for (const child of step.children) spoilAll(child)
}

let frame = 0
const isCalm = matchMedia('(prefers-reduced-motion: reduce)')

/** @param {number} x @param {number} y @param {number} scale @param {boolean} isQuick */
function fly(x, y, scale, isQuick = false) {
  cancelAnimationFrame(frame)
  const from = { ...view }
  const begin = performance.now()
  const length = isQuick || isCalm.matches ? 0 : 260
  /** @param {number} now */
  const go = (now) => {
    const part = length ? Math.min(1, (now - begin) / length) : 1
    const ease = 1 - (1 - Math.max(0, part)) ** 3
    view.scale = from.scale * (scale / from.scale) ** ease
    view.x = from.x + (x - from.x) * ease
    view.y = from.y + (y - from.y) * ease
    moved()
    if (part < 1) frame = requestAnimationFrame(go)
  }
  if (length) frame = requestAnimationFrame(go)
  else go(begin)
}

/** @param {number} factor @param {number} x @param {number} y on the screen: stays where it is */
function zoom(factor, x, y) {
  cancelAnimationFrame(frame)
  const scale = Math.min(4, Math.max(leastScale(), view.scale * factor))
  view.x = x - ((x - view.x) * scale) / view.scale
  view.y = y - ((y - view.y) * scale) / view.scale
  view.scale = scale
  moved()
}

function leastScale() {
  const [w, h] = size()
  return Math.min(0.2, (Math.min(w / root.w, h / root.h) || 1) / 2)
}

/** The whole picture. @param {boolean} isQuick */
function fit(isQuick = false) {
  const [w, h] = size()
  const scale = Math.min(1.1, (w - 40) / root.w, (h - 60) / root.h)
  fly((w - root.w * scale) / 2, (h - root.h * scale) / 2, scale, isQuick)
}

/** The beginning of the picture, at a size that can be read. */
function begin() {
  const [w, h] = size()
  const scale = Math.min(1.1, (w - 40) / root.w, (h - 56) / root.h)
  const readable =
    scale >= 0.8 ? scale : Math.max(0.8, Math.min(1, isDown ? (w - 40) / root.w : (h - 56) / root.h))
  /** Where one side begins: the main line is in the middle, if nothing is cut by that. @param {number} room @param {number} whole */
  const side = (room, whole) => {
    const middle = room / 2 - root.spine * readable
    return whole * readable > room - 40
      ? middle
      : Math.max(20, Math.min(room - 20 - whole * readable, middle))
  }
  /** @param {number} room @param {number} whole */
  const way = (room, whole) => Math.max(28, (room - whole * readable) / 2)
  fly(isDown ? side(w, root.w) : way(w, root.w), isDown ? way(h, root.h) : side(h, root.h), readable, true)
}

/** Brings a step into view, if it isn't. @param {Step} step @param {boolean} isQuick */
function reveal(step, isQuick = false) {
  if (step === root) return
  let [x, y] = [0, 0]
  for (const each of step.trail) [x, y] = [x + each.x, y + each.y]
  const [w, h] = size()
  const scale = view.scale < 0.5 || view.scale > 2 ? 1 : view.scale
  const [left, top] = [x * scale + view.x, y * scale + view.y]
  const [wide, high] = [step.w * scale, Math.min(step.h * scale, h - 120)]
  const isSeen = left >= 8 && top >= 8 && left + wide <= w - 8 && top + high <= h - 60
  if (isSeen && scale === view.scale) return
  fly(w / 2 - (x + Math.min(step.w, w / scale) / 2) * scale, h / 2 - y * scale - high / 2, scale, isQuick)
}

/** Changes what is open, with the given step held where it is. @param {Step} step @param {() => void} change */
function morph(step, change) {
  cancelAnimationFrame(frame)
  const { scale } = view
  /** @type {Map<Step, number[]>} */
  const before = new Map()
  const isSmooth = !isCalm.matches && canvas.drawn.size < 600
  for (const [key] of canvas.drawn)
    if (key instanceof Step) before.set(key, [key.left, key.top, key.w, key.h])
  const [left, top] = [step.left, step.top]
  const middle = step.w / 2
  change()
  settle()
  let [x, y] = [0, 0]
  for (const each of step.trail) [x, y] = [x + each.x, y + each.y]
  const shift = [x - left + (isDown ? step.w / 2 - middle : 0), y - top]
  view.x -= shift[0] * scale
  view.y -= shift[1] * scale
  drawView()
  moved()
  refresh()
  if (!isSmooth) return
  const way = { duration: 220, easing: 'cubic-bezier(.2,.7,.2,1)' }
  for (const [key, one] of canvas.drawn) {
    const old = key instanceof Step ? before.get(key) : undefined
    if (!old) {
      for (const node of one.nodes)
        node.animate([{ opacity: 0 }, { opacity: 0, offset: 0.3 }, { opacity: 1 }], way)
      continue
    }
    const [fromX, fromY] = [old[0] + shift[0], old[1] + shift[1]]
    if (fromX !== key.left || fromY !== key.top) {
      one.nodes[0].animate(
        [
          { transform: `translate(${fromX}px,${fromY}px)` },
          { transform: `translate(${key.left}px,${key.top}px)` }
        ],
        way
      )
    }
    if (key.isOpen && (old[2] !== key.w || old[3] !== key.h)) {
      one.nodes[0].firstChild.animate(
        [
          { width: `${old[2]}px`, height: `${old[3]}px` },
          { width: `${key.w}px`, height: `${key.h}px` }
        ],
        way
      )
    }
  }
}

/** @param {Step} step @param {boolean} isOpen */
function setOpen(step, isOpen) {
  step.isOpen = isOpen
  if (isOpen && step.kind === REPEAT && !step.isUnfolded && step.inside[0]?.isGroup) {
    step.inside[0].isOpen = true
    step.inside[0].isStale = true
  }
  spoil(step)
}

/** @param {Step} step */
function toggle(step) {
  if (step.isGroup && step !== root) morph(step, () => setOpen(step, !step.isOpen))
}

/** @param {Step} step */
function unfold(step) {
  morph(step, () => {
    step.isUnfolded = !step.isUnfolded
    for (const child of step.inside) child.isOpen = !step.isUnfolded && child === step.inside[0]
    spoilAll(step)
    setOpen(step, true)
  })
}

/** Opens or closes one more level of everything. @param {boolean} isOpen */
function level(isOpen) {
  morph(selected, () => {
    /** @type {Step[]} */
    const found = []
    /** @param {Step} step */
    const look = (step) => {
      const inside = contentsOf(step).items
      for (const child of inside) {
        if (!child.isGroup) continue
        if (child.isOpen) look(child)
        else if (isOpen) found.push(child)
      }
      const isLast = !inside.some((child) => child.isOpen)
      if (!isOpen && step !== root && isLast) found.push(step)
    }
    look(root)
    for (const step of found) setOpen(step, isOpen)
    if (!isOpen && selected !== root) selected = shownFor(selected)
  })
}

/** Opens every group; blocks that repeat stay drawn once. */
function openAll() {
  morph(selected, () => {
    /** @param {Step} step */
    const open = (step) => {
      if (!step.isGroup) return
      step.isOpen = true
      step.isStale = true
      for (const child of contentsOf(step).items) open(child)
    }
    open(root)
  })
}

function closeAll() {
  const was = shownFor(selected.trail[1] ?? root)
  morph(was, () => {
    for (const step of byKey.values()) if (step !== root) step.isOpen = false
    spoilAll(root)
    selected = was
  })
  begin()
}

/** The step itself, or the closed group in which it is hidden. @param {Step} step @returns {Step} */
function shownFor(step) {
  const closed = step.trail.find((each) => !each.isOpen)
  return closed ?? step
}

// ---------------------------------------------------------------------------------------------- map

const map = $('map')
const ink = map.getContext('2d')
let mapScale = [1, 1]

/** @param {number} left @param {number} top @param {number} right @param {number} bottom */
function drawMap(left, top, right, bottom) {
  /** How much of one side is seen. @param {number} from @param {number} to @param {number} whole */
  const seenPart = (from, to, whole) => (Math.min(to, whole) - Math.max(from, 0)) / whole
  map.hidden = seenPart(left, right, root.w) * seenPart(top, bottom, root.h) > 0.6
  if (map.hidden) return
  const scale = Math.min(110 / root.w, 160 / root.h)
  const wide = Math.max(18, root.w * scale)
  const high = Math.max(18, root.h * scale)
  mapScale = [wide / root.w, high / root.h]
  const ratio = devicePixelRatio || 1
  map.width = Math.round((wide + 12) * ratio)
  map.height = Math.round((high + 12) * ratio)
  map.style.width = `${wide + 12}px`
  map.style.height = `${high + 12}px`
  const style = getComputedStyle(map)
  ink.setTransform(ratio * mapScale[0], 0, 0, ratio * mapScale[1], 6 * ratio, 6 * ratio)
  ink.fillStyle = style.getPropertyValue('--map')
  /** @param {Step} step @param {number} x @param {number} y */
  const paint = (step, x, y) => {
    if (step.h * mapScale[1] < 1 && step.w * mapScale[0] < 1) return
    if (step !== root) ink.fillRect(x, y, step.w, step.h)
    if (step.isOpen && step.h * mapScale[1] > 4)
      for (const item of contentsOf(step).items) paint(item, x + item.x, y + item.y)
  }
  paint(root, 0, 0)
  ink.strokeStyle = style.getPropertyValue('--accent')
  ink.fillStyle = style.getPropertyValue('--accent-soft')
  ink.setTransform(ratio, 0, 0, ratio, 6 * ratio, 6 * ratio)
  ink.lineWidth = 1.5
  const x = Math.max(-4, left * mapScale[0])
  const y = Math.max(-4, top * mapScale[1])
  const w = Math.max(4, Math.min(wide + 4, right * mapScale[0]) - x)
  const h = Math.max(4, Math.min(high + 4, bottom * mapScale[1]) - y)
  ink.fillRect(x, y, w, h)
  ink.strokeRect(x, y, w, h)
}

map.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
  map.setPointerCapture(event.pointerId)
  mapTo(event)
})
map.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => event.buttons && mapTo(event))

/** @param {PointerEvent} event */
function mapTo(event) {
  const [w, h] = size()
  const box = map.getBoundingClientRect()
  view.x = w / 2 - ((event.clientX - box.left - 6) / mapScale[0]) * view.scale
  view.y = h / 2 - ((event.clientY - box.top - 6) / mapScale[1]) * view.scale
  moved()
}

// ---------------------------------------------------------------------------------------------- table

const ROW = 30
const list = $('rows')
const body = $('body')
/** @type {Step[]} */
let rows = []
/** @type {Set<Step> | null} */
let hits = null
let query = ''
let sorting = { name: '', isDown: true }

/** @type {Step[]} */
const everything = []

/** Every step, in order. */
function allSteps() {
  const all = everything
  if (all.length) return all
  /** @param {Step} step */
  const add = (step) => {
    if (step !== root) all.push(step)
    for (const child of step.inside) add(child)
  }
  add(root)
  return all
}

/** Which numbers the table shows: those of every summary, and what heat is chosen. */
function shownColumns() {
  return ['params', 'macs', heat === 'params' || heat === 'macs' ? 'output' : heat].filter((name) =>
    data.heats.includes(name)
  )
}

/** Whether only what differs between two models has rows. */
function isPicked() {
  return $('picked').checked
}

/** Finds which rows the table has, and in what order. */
function refresh() {
  const terms = query.toLowerCase().split(/\s+/).filter(Boolean)
  rows = [...allSteps()]
  if (isPicked()) rows = rows.filter((step) => step.difference && !step.isGroup)
  if (terms.length) {
    rows = rows.filter((step) => {
      const all = `${step.key} ${step.title} ${step.type} ${step.words('gives')}`.toLowerCase()
      return terms.every((term) => all.includes(term))
    })
    hits = new Set(rows)
  } else hits = null
  const { name } = sorting
  if (name) {
    const value =
      name === 'step'
        ? (/** @type {Step} */ step) => step.key
        : (/** @type {Step} */ step) => step.number(name)
    const sign = sorting.isDown ? -1 : 1
    rows = rows.filter((step) => name === 'step' || !step.isGroup)
    rows.sort((a, b) => {
      const [left, right] = [value(a), value(b)]
      return left < right ? -sign : left > right ? sign : 0
    })
  }
  $('table').setAttribute('aria-rowcount', String(rows.length + 1))
  const all = exact(allSteps().length)
  $('found').textContent = terms.length || isPicked() ? `${exact(rows.length)} of ${all}` : `${all} steps`
  drawRows()
}

let firstRow = 0 // of those that are drawn

/** Draws the rows that are in view. */
function drawRows(isAll = false) {
  const first = isAll ? 0 : Math.max(0, Math.floor(list.scrollTop / ROW) - 8)
  const last = isAll
    ? Math.min(rows.length, 3000)
    : Math.min(rows.length, first + Math.ceil(list.clientHeight / ROW) + 16)
  const made = rows.slice(first, last).map((step, i) => rowOf(step, first + i))
  const hadFocus = body.contains(document.activeElement)
  body.replaceChildren(padding(first), ...made, padding(rows.length - last))
  firstRow = first
  if (hadFocus) (body.querySelector('[tabindex="0"]') ?? list).focus({ preventScroll: true })
}

/** @param {number} count */
function padding(count) {
  const row = html('tr', 'padding')
  const cell = html('td')
  cell.colSpan = 4 // a narrow table has no more
  row.style.height = `${count * ROW}px`
  row.hidden = !count
  row.setAttribute('aria-hidden', 'true')
  row.append(cell)
  return row
}

/** @type {Record<string, string>} */
const TAGS = { only: 'only here', changed: 'differs' }

/** @param {Step} step @param {number} index */
function rowOf(step, index) {
  const isFlat = query !== '' || sorting.name !== '' || isPicked()
  const name = html('td', 'step')
  name.style.paddingLeft = `${20 + (isFlat ? 0 : Math.min(8, step.depth - 1) * 14)}px`
  name.append(
    html('span', `mark family${step.family} kind${step.kind}`),
    html('span', 'name', isFlat ? step.name || step.title : step.title)
  )
  if (step.times > 1) name.append(html('span', 'times', `×${step.times}`))
  if (step.difference) name.append(html('span', `tag ${step.difference}`, TAGS[step.difference]))
  if (step.type) name.append(html('span', 'type', step.type))
  name.title = step.key
  const row = html('tr', step === selected ? 'selected' : '', [
    name,
    html('td', 'gives', step.words('gives'))
  ])
  for (const column of shownColumns()) {
    const number = step.number(column)
    const cell = html('td', 'number', html('span', '', number ? HEATS[column].format(number) : ''))
    const share = step.shareOf(column)
    if (column === heat && share) {
      const bar = html('i')
      bar.style.width = `${Math.max(2, share * 100).toFixed(1)}%`
      cell.append(bar)
      cell.title = `${percent(share)} of all`
    }
    row.append(cell)
  }
  row.tabIndex = step === selected || (index === 0 && !rows.includes(selected)) ? 0 : -1
  row.setAttribute('aria-rowindex', String(index + 2))
  row.setAttribute('aria-selected', String(step === selected))
  row.addEventListener('click', () => select(step, true))
  row.addEventListener('dblclick', () => toggle(step))
  return row
}

function drawHead() {
  const head = html('tr')
  const all = [['step', 'Step'], ['', 'Result'], ...shownColumns().map((name) => [name, HEATS[name].short])]
  for (const [name, label] of all) {
    const cell = html('th', name && name !== 'step' ? 'number' : name)
    cell.scope = 'col'
    if (!name) cell.textContent = label
    else {
      const isOn = sorting.name === name
      const button = html('button', isOn ? 'on' : '', label)
      button.append(html('span', 'arrow', isOn ? (sorting.isDown ? '↓' : '↑') : ''))
      button.addEventListener('click', () => sortBy(name))
      cell.setAttribute('aria-sort', isOn ? (sorting.isDown ? 'descending' : 'ascending') : 'none')
      cell.append(button)
    }
    head.append(cell)
  }
  $('head').replaceChildren(head)
}

/** Sorts by a column: first one way, then the other, then as it was. @param {string} name */
function sortBy(name) {
  const first = name !== 'step'
  if (sorting.name !== name) sorting = { name, isDown: first }
  else if (sorting.isDown === first) sorting = { name, isDown: !first }
  else sorting = { name: '', isDown: true }
  drawHead()
  list.scrollTop = 0
  refresh()
  for (const button of $('head').querySelectorAll('button'))
    if (button.textContent.startsWith(name === 'step' ? 'Step' : HEATS[name].short)) button.focus()
}

/** Scrolls the table to the row of the step that is selected. */
function showRow() {
  const index = rows.indexOf(selected)
  if (index >= 0) {
    const top = index * ROW
    const room = list.clientHeight - 34
    if (top < list.scrollTop) list.scrollTop = top
    else if (top + ROW > list.scrollTop + room) list.scrollTop = top + ROW - room
  }
  drawRows()
}

list.addEventListener('scroll', () => {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 8)
  if (firstRow !== first) drawRows()
})

// ---------------------------------------------------------------------------------------------- selection

/** @param {Step} step @param {boolean} isFromTable */
function select(step, isFromTable = false) {
  selected = step
  const hidden = step.trail
    .slice(0, -1)
    .filter((each) => !each.isOpen || (each.kind === REPEAT && !each.isUnfolded && !inFirst(each, step)))
  if (hidden.length) {
    for (const each of hidden) {
      if (each.kind === REPEAT && !inFirst(each, step)) each.isUnfolded = true
      each.isOpen = true
    }
    spoilAll(root)
    arrange()
  } else drawView()
  reveal(step)
  describe()
  if (isFromTable) drawRows()
  else showRow()
  try {
    history.replaceState(
      null,
      '',
      step === root ? location.pathname + location.search : `#${encodeURIComponent(step.key)}`
    )
  } catch {
    // a frame without an address of its own
  }
}

/** @param {Step} repeat @param {Step} step */
function inFirst(repeat, step) {
  return step.trail.includes(repeat.inside[0])
}

/** The steps that a tensor comes from or goes to, also across the border of the group. @param {Step} step @param {boolean} isFrom @returns {Step[]} */
function neighbors(step, isFrom) {
  const { parent } = step
  if (!parent) return []
  const index = parent.children.indexOf(step)
  /** @type {Step[]} */
  const found = []
  for (const wire of groupOf(parent).wires) {
    if (isFrom && wire.targets.includes(index)) {
      if (wire.source >= 0) found.push(parent.children[wire.source])
      else found.push(...beyond(parent, wire.tensor, true))
    }
    if (!isFrom && wire.source === index) {
      for (const target of wire.targets) {
        if (target < parent.children.length) found.push(parent.children[target])
        else found.push(...beyond(parent, wire.tensor, false))
      }
    }
  }
  return [...new Set(found)]
}

/** @param {Step} group @param {number} tensor @param {boolean} isFrom @returns {Step[]} */
function beyond(group, tensor, isFrom) {
  const { parent } = group
  if (!parent) return []
  const index = parent.children.indexOf(group)
  const wires = groupOf(parent).wires
  const same = (/** @type {Wire} */ wire) => (isFrom ? wire.targets.includes(index) : wire.source === index)
  const own = wires.filter((wire) => wire.tensor === tensor && same(wire))
  return (own.length ? own : wires.filter(same)).flatMap((wire) => {
    if (isFrom) return wire.source >= 0 ? [parent.children[wire.source]] : beyond(parent, wire.tensor, true)
    return wire.targets.flatMap((target) => parent.children[target] ?? beyond(parent, wire.tensor, false))
  })
}

/** @param {string} label @param {() => void} act @param {string} style */
function button(label, act, style = '') {
  const made = html('button', style, label)
  made.type = 'button'
  made.addEventListener('click', act)
  return made
}

/** Fills the description of the step that is selected, and the way to it. */
function describe() {
  const step = selected
  const isRoot = step === root
  $('trail').replaceChildren(...step.trail.map((each) => html('li', '', trailLink(each))))
  $('trail').hidden = isRoot
  const about = $('about')
  about.hidden = isRoot
  if (isRoot) return
  const head = html('div', 'head', [html('h2', '', step.path || step.title), html('span', 'type', step.type)])
  const facts = factsOf(step).filter(([, value]) => value)
  const list = facts.flatMap(([name, value]) => [html('dt', '', name), html('dd', '', value)])
  about.replaceChildren(head, html('dl', '', list), html('div', 'buttons', buttonsOf(step)))
}

/** @param {Step} step */
function trailLink(step) {
  const link = button(
    step === root ? data.title : step.title,
    () => select(step),
    step === selected ? 'here' : ''
  )
  if (step === selected) link.setAttribute('aria-current', 'true')
  return link
}

/** @param {Step} step */
function buttonsOf(step) {
  const link = () => `${location.href.split('#')[0]}#${encodeURIComponent(step.key)}`
  const buttons = [
    button('Copy path', () => copy(step.path, 'path')),
    button('Copy link', () => copy(link(), 'link'))
  ]
  if (step.isGroup) buttons.push(button(step.isOpen ? 'Close' : 'Open', () => toggle(step)))
  if (step.kind === REPEAT)
    buttons.push(button(step.isUnfolded ? 'Fold' : `Unfold all ${step.times}`, () => unfold(step)))
  return buttons
}

/** Returns names and values; one that isn't known is empty. @param {Step} step @returns {[string, string | Node][]} */
function factsOf(step) {
  const shapes = [step.words('takes'), step.words('gives')].filter(Boolean)
  const { other } = step
  return [
    ['Shape', shapes[0] === shapes[1] ? shapes[0] : shapes.join(' → ')],
    ...data.heats.map((/** @type {string} */ name) => [HEATS[name].name, amountOf(step, name)]),
    ...(step.difference === 'changed' && other ? [[`In ${other.trail[1].title}`, otherLink(other)]] : []),
    ['Reads', step.words('reads')],
    ['Called at', step.words('line')],
    ['From', neighborLinks(step, true)],
    ['To', neighborLinks(step, false)]
  ]
}

/** @param {Step} step @param {string} name */
function amountOf(step, name) {
  const number = step.number(name)
  if (!number) return ''
  const share = step.shareOf(name)
  const exactly = name === 'macs' || name === 'params' ? exact(number) : HEATS[name].format(number)
  return `${exactly}${share ? ` · ${percent(share)}` : ''}`
}

/** Returns a link to the same step of the other of two models. @param {Step} other */
function otherLink(other) {
  const numbers = ['macs', 'params']
    .filter((name) => data.heats.includes(name))
    .map((name) => `${exact(other.number(name))} ${HEATS[name].name}`)
  const times = other.times > 1 ? `×${other.times}` : ''
  const words = [times, other.type, other.words('gives'), ...numbers].filter(Boolean).join(', ')
  return button(words, () => select(other), 'chip')
}

/** @param {Step} step @param {boolean} isFrom @returns {string | Node} */
function neighborLinks(step, isFrom) {
  const all = neighbors(step, isFrom)
  const links = all.slice(0, 8).map((each) => button(each.title, () => select(each), 'chip'))
  if (all.length > 8) links.push(html('span', 'more', `and ${all.length - 8} more`))
  return links.length ? html('div', 'chips', links) : ''
}

// ---------------------------------------------------------------------------------------------- the model

/** Fills the numbers of the whole model, or of both, and the bars of what a training step needs. */
function drawModel() {
  const models = data.pair ?? [data]
  /** @type {Node[]} */
  const figures = []
  /** @param {string} name @param {(model: any) => [string, string] | false | undefined} read */
  const figure = (name, read) => {
    const found = models.map(read)
    if (!found.every(Boolean)) return
    const [values, more] = [0, 1].map((i) => [
      ...new Set(found.map((/** @type {string[]} */ each) => each[i]))
    ])
    const value = html('dd', '', [html('strong', '', values.join(' → ')), html('span', '', more.join(' → '))])
    figures.push(html('div', 'figure', [html('dt', '', name), value]))
  }
  figure('Parameters', ({ totals }) => {
    if (!totals) return false
    const frozen = totals.parameters - totals.trainable
    return [short(totals.parameters), exact(totals.parameters) + (frozen ? `, ${short(frozen)} frozen` : '')]
  })
  figure('MACs', ({ totals }) => totals && [short(totals.macs), exact(totals.macs)])
  figure(
    'A training step',
    ({ memory }) => memory?.training_peak && [bytes(memory.training_peak), `at its peak, ${memory.optimizer}`]
  )
  figure('Inference', ({ memory }) => memory?.inference_peak && [bytes(memory.inference_peak), 'at its peak'])
  $('figures').replaceChildren(...figures)
  const warnings = models.flatMap((/** @type {any} */ model) => model.warnings)
  $('warnings').replaceChildren(...warnings.map((/** @type {string} */ warning) => html('p', '', warning)))
  const most = Math.max(...models.map((/** @type {any} */ { memory }) => (memory ? wholeOf(memory) : 0)))
  $('memory').replaceChildren(
    ...models.flatMap((/** @type {any} */ { title, memory }) => (memory ? memoryOf(title, memory, most) : []))
  )
}

/** @param {any} memory @returns {[string, number][]} */
function partsOf(memory) {
  return [
    ['Weights', memory.parameters + memory.buffers],
    ['Gradients', memory.gradients],
    ['Optimizer', memory.optimizer_state],
    ['Activations', memory.saved]
  ]
}

/** @param {any} memory */
function wholeOf(memory) {
  return Math.max(
    memory.training_peak,
    partsOf(memory).reduce((sum, [, number]) => sum + number, 0)
  )
}

/** @param {string} title @param {any} memory @param {number} most */
function memoryOf(title, memory, most) {
  const parts = partsOf(memory)
  const known = parts.reduce((sum, [, number]) => sum + number, 0)
  if (memory.training_peak > known) parts.push(['Other', memory.training_peak - known])
  const bar = html('div', 'bar')
  const legend = html('ul', 'parts', data.pair ? [html('li', '', html('b', '', title))] : [])
  bar.style.width = `${(100 * wholeOf(memory)) / most}%`
  parts.forEach(([name, number], i) => {
    if (!number) return
    const part = html('span', `part${i}`)
    part.style.flexGrow = String(number / wholeOf(memory))
    bar.append(part)
    legend.append(
      html('li', '', [html('i', `part${i}`), html('span', '', name), html('b', '', bytes(number))])
    )
  })
  bar.setAttribute('role', 'img')
  bar.setAttribute('aria-label', parts.map(([name, number]) => `${name} ${bytes(number)}`).join(', '))
  return [bar, legend, ...(memory.note ? [html('p', 'note', memory.note)] : [])]
}

/** Fills the legend: what the colors and their strength mean. */
function drawLegend() {
  const used = [...new Set([...byKey.values()].filter(hasDot).map((step) => step.family))]
    .filter((family) => family !== OTHER)
    .sort((a, b) => a - b)
  $('families').replaceChildren(
    ...used.map((family) => html('li', '', [html('i', `mark family${family}`), data.families[family]]))
  )
}

/** @param {string} name */
function setHeat(name) {
  heat = name
  drawLegend()
  spoilAll(root)
  drawHead()
  arrange()
  refresh()
}

// ---------------------------------------------------------------------------------------------- copies

let toastTimer = 0

/** @param {string} message */
function toast(message) {
  const node = $('toast')
  node.textContent = message
  node.classList.add('on')
  clearTimeout(toastTimer)
  toastTimer = window.setTimeout(() => node.classList.remove('on'), 2200)
}

/** @param {string} words @param {string} what */
async function copy(words, what) {
  try {
    await navigator.clipboard.writeText(words)
  } catch {
    const area = html('textarea')
    area.value = words
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
  toast(`Copied the ${what}`)
}

/** The rules of the picture with their colors written out, so that they mean the same outside of this page. */
function pictureRules() {
  const style = getComputedStyle(document.documentElement)
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText))
  return rules
    .filter((rule) => /^\.(picture|family)/.test(rule))
    .join('\n')
    .replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim())
}

/** The whole picture, as it is open now, as an image of its own. */
function wholePicture() {
  const pad = 24
  const [w, h] = [Math.ceil(root.w + 2 * pad), Math.ceil(root.h + 2 * pad)]
  const style = getComputedStyle(document.documentElement)
  const whole = svg('svg', {
    xmlns: SVG,
    class: 'picture',
    width: w,
    height: h,
    'font-family': FONT,
    viewBox: `${-pad} ${-pad} ${w} ${h}`
  })
  whole.append(
    svg('title', {}, [document.createTextNode(data.title)]),
    svg('style', {}, [document.createTextNode(pictureRules())])
  )
  whole.append(
    svg('rect', { x: -pad, y: -pad, width: w, height: h, fill: style.getPropertyValue('--page').trim() })
  )
  const was = selected
  selected = root
  new Canvas(whole).draw([-Infinity, -Infinity, Infinity, Infinity], 1e9)
  selected = was
  for (const node of whole.querySelectorAll('[role]'))
    for (const name of node.getAttributeNames())
      if (/^(role|id|aria-.*)$/.test(name)) node.removeAttribute(name)
  return { source: new XMLSerializer().serializeToString(whole), w, h }
}

const MOST_PIXELS = 60e6
const TOO_LARGE = 'The picture is too large for a PNG: close some groups, or take SVG'

/** @returns {Promise<Blob>} */
function asPng() {
  const { source, w, h } = wholePicture()
  const scale = Math.min(2, 16000 / w, 16000 / h, Math.sqrt(MOST_PIXELS / (w * h)))
  if (scale < 0.5) return Promise.reject(new Error(TOO_LARGE))
  return new Promise((resolve, reject) => {
    const image = new Image()
    image.onload = () => {
      const sheet = document.createElement('canvas')
      sheet.width = Math.round(w * scale)
      sheet.height = Math.round(h * scale)
      sheet.getContext('2d')?.drawImage(image, 0, 0, sheet.width, sheet.height)
      sheet.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(TOO_LARGE))), 'image/png')
    }
    image.onerror = () => reject(new Error(TOO_LARGE))
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`
  })
}

/** @param {Blob} blob @param {string} suffix */
function save(blob, suffix) {
  const link = html('a')
  link.href = URL.createObjectURL(blob)
  link.download = `${data.title.replace(/[^\w.-]+/g, '-')}.${suffix}`
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 10000)
  toast(`Saved ${link.download}`)
}

/** @type {Record<string, () => void>} */
const COPIES = {
  'copy-svg': () => copy(wholePicture().source, 'picture as SVG'),
  'copy-png': () => {
    const made = asPng()
    const item = new ClipboardItem({ 'image/png': made })
    navigator.clipboard.write([item]).then(
      () => toast('Copied the picture as PNG'),
      () =>
        made.then(
          (blob) => save(blob, 'png'),
          (error) => toast(error.message)
        )
    )
  },
  'save-svg': () => save(new Blob([wholePicture().source], { type: 'image/svg+xml' }), 'svg'),
  'save-png': () =>
    asPng().then(
      (blob) => save(blob, 'png'),
      (error) => toast(error.message)
    )
}

// ---------------------------------------------------------------------------------------------- hands

/** @type {Map<number, PointerEvent>} */
const fingers = new Map()
let wasDragged = false

graph.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
  if (event.button > 1) return
  cancelAnimationFrame(frame)
  fingers.set(event.pointerId, event)
  if (fingers.size === 1) wasDragged = false
})

graph.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
  const before = fingers.get(event.pointerId)
  if (!before) return
  const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY]
  if (!wasDragged && Math.hypot(dx, dy) < 4) return
  if (!wasDragged) graph.setPointerCapture(event.pointerId)
  wasDragged = true
  graph.classList.add('grabbed')
  if (fingers.size === 2) {
    const other = /** @type {PointerEvent} */ (
      [...fingers.values()].find((each) => each.pointerId !== event.pointerId)
    )
    const box = graph.getBoundingClientRect()
    const apart = (/** @type {PointerEvent} */ one) =>
      Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY)
    const [x, y] = [
      (event.clientX + other.clientX) / 2 - box.left,
      (event.clientY + other.clientY) / 2 - box.top
    ]
    zoom(apart(event) / Math.max(1, apart(before)), x, y)
    view.x += dx / 2
    view.y += dy / 2
  } else {
    view.x += dx
    view.y += dy
  }
  moved()
  fingers.set(event.pointerId, event)
})

for (const name of ['pointerup', 'pointercancel']) {
  graph.addEventListener(name, (/** @type {PointerEvent} */ event) => {
    fingers.delete(event.pointerId)
    if (!fingers.size) graph.classList.remove('grabbed')
  })
}

graph.addEventListener(
  'wheel',
  (/** @type {WheelEvent} */ event) => {
    event.preventDefault()
    const box = graph.getBoundingClientRect()
    const unit = event.deltaMode ? 30 : 1
    if (event.ctrlKey || event.metaKey) {
      const amount = Math.max(-60, Math.min(60, event.deltaY * unit))
      zoom(Math.exp(-amount / 100), event.clientX - box.left, event.clientY - box.top)
      return
    }
    cancelAnimationFrame(frame)
    view.x -= (event.shiftKey ? event.deltaY : event.deltaX) * unit
    view.y -= (event.shiftKey ? 0 : event.deltaY) * unit
    moved()
  },
  { passive: false }
)

/** @param {Event} event @returns {Step | undefined} */
function stepAt(event) {
  const node = /** @type {Element} */ (event.target).closest?.('[role=treeitem]')
  return node ? steps.get(node) : undefined
}

graph.addEventListener('click', (/** @type {MouseEvent} */ event) => {
  if (wasDragged) return
  const step = stepAt(event)
  const target = /** @type {Element} */ (event.target)
  if (!step) select(root)
  else if (target.closest('.unfold')) unfold(step)
  else if (target.closest('.toggle')) toggle(step)
  else if (step === selected && !step.isOpen) toggle(step)
  else select(step)
  describe()
})

/** What is drawn, in order. */
function visible() {
  /** @type {Step[]} */
  const all = []
  /** @param {Step} step */
  const add = (step) => {
    if (step !== root) all.push(step)
    if (step.isOpen) for (const item of contentsOf(step).items) add(item)
  }
  add(root)
  return all
}

graph.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const all = visible()
  const index = all.indexOf(selected)
  const isIn = index >= 0
  /** @type {Record<string, () => void>} */
  const keys = {
    ArrowDown: () => select(all[Math.min(all.length - 1, index + 1)]),
    ArrowUp: () => select(all[Math.max(0, index - 1)]),
    ArrowRight: () => {
      if (!isIn) select(all[0])
      else if (selected.isGroup && !selected.isOpen) toggle(selected)
      else if (selected.isOpen) select(all[index + 1])
    },
    ArrowLeft: () => {
      if (isIn && selected.isOpen) toggle(selected)
      else if (isIn && selected.parent) select(selected.parent)
    },
    Home: () => select(all[0]),
    End: () => select(all[all.length - 1]),
    Enter: () => isIn && toggle(selected),
    ' ': () => isIn && toggle(selected),
    u: () => selected.kind === REPEAT && unfold(selected),
    c: () => isIn && copy(selected.path, 'path'),
    Escape: () => select(root)
  }
  if (!keys[event.key]) return
  event.preventDefault()
  keys[event.key]()
  describe()
})

list.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
  if (!(/** @type {Element} */ (event.target).closest('tbody'))) return
  const index = rows.indexOf(selected)
  const page = Math.floor(list.clientHeight / ROW) - 2
  /** @type {Record<string, number>} */
  const places = {
    ArrowDown: index + 1,
    ArrowUp: index - 1,
    PageDown: index + page,
    PageUp: index - page,
    Home: 0,
    End: rows.length - 1
  }
  if (event.key === 'Enter' && selected !== root) toggle(selected)
  else if (event.key in places && rows.length)
    select(rows[Math.max(0, Math.min(rows.length - 1, places[event.key]))])
  else return
  event.preventDefault()
})

/** @type {Record<string, () => void>} */
const ACTS = {
  more: () => level(true),
  less: () => level(false),
  all: openAll,
  none: closeAll,
  turn: () => {
    isDown = !isDown
    document.body.dataset.direction = isDown ? 'down' : 'right'
    spoilAll(root)
    arrange()
    begin()
    reveal(selected, true)
  },
  in: () => zoom(1.25, size()[0] / 2, size()[1] / 2),
  out: () => zoom(0.8, size()[0] / 2, size()[1] / 2),
  fit: () => fit(),
  ...COPIES
}

for (const node of document.querySelectorAll('[data-act]')) {
  const act = ACTS[/** @type {HTMLElement} */ (node).dataset.act ?? '']
  node.addEventListener('click', () => {
    act()
    const menu = node.closest('details')
    if (menu) menu.open = false
  })
}

const search = $('search')
search.addEventListener('input', () => {
  query = search.value.trim()
  list.scrollTop = 0
  refresh()
  drawView()
})
search.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
  if (event.key === 'Enter' && rows.length) {
    const index = rows.indexOf(selected)
    const next = index < 0 ? 0 : (index + (event.shiftKey ? -1 : 1) + rows.length) % rows.length
    select(rows[next])
  } else if (event.key === 'Escape') {
    search.value = query = ''
    refresh()
    drawView()
    graph.focus()
  } else return
  event.preventDefault()
})

document.addEventListener('keydown', (event) => {
  const target = /** @type {Element} */ (event.target)
  const menu = /** @type {HTMLDetailsElement | null} */ (document.querySelector('details[open]'))
  if (event.key === 'Escape' && menu) {
    menu.open = false
    menu.querySelector('summary')?.focus()
  }
  if (target.closest('input, select, textarea') || event.ctrlKey || event.metaKey || event.altKey) return
  /** @type {Record<string, string>} */
  const keys = { '+': 'in', '=': 'in', '-': 'out', 0: 'fit', d: 'turn', e: 'more', E: 'less' }
  if (event.key === '/') search.focus()
  else if (event.key in keys) ACTS[keys[event.key]]()
  else return
  event.preventDefault()
})

document.addEventListener('click', (event) => {
  for (const menu of document.querySelectorAll('details[open]'))
    if (!menu.contains(/** @type {Node} */ (event.target))) menu.removeAttribute('open')
})

// The border between picture and table can be moved by pointer and keys.
const split = $('split')
let part = 56

/** @param {number} percentage */
function setPart(percentage) {
  part = Math.max(25, Math.min(80, percentage))
  document.body.style.setProperty('--part', `${part}%`)
  split.setAttribute('aria-valuenow', String(Math.round(part)))
}

split.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) =>
  split.setPointerCapture(event.pointerId)
)
split.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
  const box = $('main').getBoundingClientRect()
  const isWide = getComputedStyle($('main')).flexDirection === 'row'
  if (split.hasPointerCapture(event.pointerId))
    setPart((isWide ? (event.clientX - box.left) / box.width : (event.clientY - box.top) / box.height) * 100)
})
split.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
  /** @type {Record<string, number>} */
  const steps = { ArrowLeft: -2, ArrowUp: -2, ArrowRight: 2, ArrowDown: 2 }
  if (!(event.key in steps)) return
  event.preventDefault()
  setPart(part + steps[event.key])
})

addEventListener('hashchange', () => {
  const step = byKey.get(decoded(location.hash.slice(1)))
  if (step) select(step)
})

/** @param {string} words */
function decoded(words) {
  try {
    return decodeURIComponent(words)
  } catch {
    return words
  }
}

// On paper the whole picture fits the page, and the table has all its rows.
addEventListener('beforeprint', () => {
  camera.setAttribute('transform', '')
  picture.setAttribute('viewBox', `-12 -12 ${root.w + 24} ${root.h + 24}`)
  canvas.draw([-Infinity, -Infinity, Infinity, Infinity], 1e9)
  drawRows(true)
})
addEventListener('afterprint', () => {
  picture.removeAttribute('viewBox')
  arrange()
  drawRows()
})

// ---------------------------------------------------------------------------------------------- begin

function start() {
  const kinds = $('heat')
  kinds.replaceChildren(
    ...data.heats.map(
      (/** @type {string} */ name) => new Option(HEATS[name].name, name, false, name === heat)
    )
  )
  kinds.addEventListener('change', () => setHeat(kinds.value))
  document.body.dataset.direction = isDown ? 'down' : 'right'
  $('picks').hidden = !data.pair
  $('picked').addEventListener('change', refresh)
  allSteps()
  for (const key of data.open) {
    const step = byKey.get(key)
    if (!step) continue
    for (const each of step.trail) if (each.isGroup) setOpen(each, true)
  }
  drawLegend()
  drawModel()
  drawHead()
  settle()
  begin()
  drawView()
  moved()
  refresh()
  describe()
  const linked = location.hash && byKey.get(decoded(location.hash.slice(1)))
  if (linked) {
    select(linked)
    reveal(linked, true)
  }
  let before = size()
  new ResizeObserver(() => {
    const now = size()
    view.x += (now[0] - before[0]) / 2
    before = now
    moved()
    drawRows()
  }).observe(graph)
  document.body.dataset.ready = 'true'
}

start()
