// What a program printed, as text in the page: colours are left out, a carriage return writes over its line.
const MOST = 65536;

export class Output {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.element.replaceChildren();
    this.line = null;
    this.size = 0;
    this.escape = "";
  }

  // Follows only while the reader is at the end.
  add(text, stream) {
    const follows = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 20;
    text = (this.escape + text).replace(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, "").replace(/\x1b\][^\x07\x1b]*(\x07|\x1b\\)/g, "");
    const cut = text.search(/\x1b[^\x1b]{0,20}$/);
    this.escape = cut >= 0 ? text.slice(cut) : "";
    if (cut >= 0) text = text.slice(0, cut);
    for (const part of text.split(/(\r\n|\n|\r)/)) {
      if (part === "\n" || part === "\r\n") {
        this.write("\n", stream);
        this.line = null;
      } else if (part === "\r") {
        if (this.line) this.line.textContent = "";
      } else if (part !== "") {
        this.write(part, stream);
      }
    }
    while (this.size > MOST && this.element.firstChild !== this.line && this.element.firstChild) {
      this.size -= this.element.firstChild.textContent.length;
      this.element.firstChild.remove();
    }
    if (follows) this.element.scrollTop = this.element.scrollHeight;
  }

  write(text, stream) {
    if (!this.line || this.line.className !== stream) {
      this.line = document.createElement("span");
      this.line.className = stream;
      this.element.append(this.line);
    }
    this.line.textContent += text;
    this.size += text.length;
  }
}
