// The events of the host: one stream for all tabs of a browser, as it has only six connections to an address. The tab that has
// the lock listens, and tells the others. It comes back by itself, and knows when it has not heard anything for too long.
const HEARD = 40000; // milliseconds: a heartbeat comes every 15 s
const NAMES = ["hello", "stats", "task", "output", "resync"];

export class Live {
  constructor(address, told, state) {
    this.address = address;
    this.told = told;
    this.state = state;
    this.pause = 1000;
    this.since = Date.now();
    this.works = false; // something has come, and nothing is wrong since
    const share = !address.includes("?") && "locks" in navigator && "BroadcastChannel" in window;
    if (!share) { this.open(); return; }
    this.channel = new BroadcastChannel("ltsh " + new URL(address, location.href).href);
    this.channel.onmessage = (message) => this.hear(message.data.name, message.data.data, false);
    navigator.locks.request("ltsh " + new URL(address, location.href).href, () => new Promise((release) => {
      this.release = release;
      this.leads = true;
      this.open();
    }));
    this.watch = setInterval(() => this.look(), 5000);
  }

  hear(name, data, pass) {
    this.heard = Date.now();
    this.works = true;
    this.state(true);
    if (pass && this.channel) this.channel.postMessage({ name, data });
    if (name !== "alive") this.told(name, data);
  }

  look() {
    if (this.heard && Date.now() - this.heard > HEARD) {
      this.works = false;
      this.state(false, this.heard);
      if (this.leads) this.again();
    } else if (this.leads && this.source && this.source.readyState === EventSource.OPEN && this.channel) {
      this.channel.postMessage({ name: "alive" });
    }
  }

  open() {
    if (this.closed) return;
    this.source = new EventSource(this.address);
    this.source.onopen = () => {
      this.pause = 1000;
      this.hear("open", {}, true);
    };
    this.source.onerror = () => {
      this.works = false;
      this.state(false, this.heard);
      if (this.source.readyState === EventSource.CLOSED) this.again();
    };
    for (const name of NAMES) {
      this.source.addEventListener(name, (event) => this.hear(name, JSON.parse(event.data), true));
    }
    if (!this.watch) this.watch = setInterval(() => this.look(), 5000);
  }

  // It was refused for good, as by a proxy during a restart, or is dead.
  again() {
    if (this.source) this.source.close();
    if (this.closed || this.waits) return;
    this.waits = setTimeout(() => { this.waits = null; this.open(); }, this.pause * (0.75 + Math.random() / 2));
    this.heard = Date.now();
    this.pause = Math.min(this.pause * 2, 30000);
  }

  close() {
    this.closed = true;
    clearInterval(this.watch);
    clearTimeout(this.waits);
    if (this.source) this.source.close();
    if (this.channel) this.channel.close();
    if (this.release) this.release();
  }
}
