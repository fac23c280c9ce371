// JSON whose numbers keep all their digits: a number that JavaScript cannot hold exactly is an Exact, with its text.
export class Exact {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
}

export function parse(text) {
  let at = 0;
  const fail = () => { throw new SyntaxError("no JSON at " + at); };
  const space = () => { while (" \t\r\n".includes(text[at]) && at < text.length) at++; };
  const word = (name, value) => {
    if (!text.startsWith(name, at)) fail();
    at += name.length;
    return value;
  };
  const string = () => {
    let end = at + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    const value = JSON.parse(text.slice(at, end + 1));
    at = end + 1;
    return value;
  };
  const number = () => {
    const found = /^-?\d+(\.\d+)?([eE][+-]?\d+)?/.exec(text.slice(at, at + 400));
    if (!found) fail();
    at += found[0].length;
    const value = Number(found[0]);
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? new Exact(found[0]) : value;
  };
  const value = () => {
    space();
    const c = text[at];
    if (c === "{") {
      const made = new Map();
      at++;
      space();
      if (text[at] === "}") { at++; return made; }
      for (;;) {
        space();
        if (text[at] !== '"') fail();
        const key = string();
        space();
        if (text[at++] !== ":") fail();
        made.set(key, value());
        space();
        if (text[at] === "}") { at++; return made; }
        if (text[at++] !== ",") fail();
      }
    }
    if (c === "[") {
      const made = [];
      at++;
      space();
      if (text[at] === "]") { at++; return made; }
      for (;;) {
        made.push(value());
        space();
        if (text[at] === "]") { at++; return made; }
        if (text[at++] !== ",") fail();
      }
    }
    if (c === '"') return string();
    if (c === "t") return word("true", true);
    if (c === "f") return word("false", false);
    if (c === "n") return word("null", null);
    return number();
  };
  const made = value();
  space();
  if (at < text.length) fail();
  return made;
}

// As text for people, two spaces a level.
export function show(value, indent = "") {
  const more = indent + "  ";
  if (value instanceof Map) {
    if (value.size === 0) return "{}";
    const parts = [];
    for (const [key, field] of value) parts.push(more + JSON.stringify(key) + ": " + show(field, more));
    return "{\n" + parts.join(",\n") + "\n" + indent + "}";
  }
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return "[\n" + value.map((field) => more + show(field, more)).join(",\n") + "\n" + indent + "]";
  }
  return value instanceof Exact ? value.text : JSON.stringify(value);
}
