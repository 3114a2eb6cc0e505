// Putting elements into an order with as few moves as there can be: each move costs layout, and one's place.

/** Have `parent`'s children in the order of `wanted`, and nobody else among them. */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  const places = new Map([...parent.children].map((child, at) => [child, at]));
  const staying = longestRise(wanted.map((child) => places.get(child) ?? -1));
  let next = null;
  for (let at = wanted.length - 1; at >= 0; at--) {
    const child = wanted[at];
    if (!staying.has(at)) move(parent, child, next);
    next = child;
  }
}

function move(parent, child, next) {
  // Where the browser can, without the focus being lost on the way.
  if (parent.moveBefore && child.parentNode === parent) parent.moveBefore(child, next);
  else parent.insertBefore(child, next);
}

/** The positions of a longest run of rising numbers in `numbers`; those below 0 take no part. */
export function longestRise(numbers) {
  const ends = []; // the position of the smallest end of a run of each length
  const before = new Array(numbers.length).fill(-1);
  for (let at = 0; at < numbers.length; at++) {
    if (numbers[at] < 0) continue;
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (numbers[ends[middle]] < numbers[at]) low = middle + 1;
      else high = middle;
    }
    before[at] = low > 0 ? ends[low - 1] : -1;
    ends[low] = at;
  }
  const found = new Set();
  for (let at = ends.at(-1) ?? -1; at >= 0; at = before[at]) found.add(at);
  return found;
}
