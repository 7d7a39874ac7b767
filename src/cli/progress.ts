/** One line on a terminal that tells how far long work is. Silent where stderr is not a terminal. */

/** Work shorter than this shows nothing. */
const QUIET_MS = 500;
const STEP_MS = 200;

export class Progress {
  private readonly started = performance.now();
  private shown = 0;
  private readonly enabled = process.stderr.isTTY === true;
  private drawn = false;

  /** `total` 0: unknown. Cheap enough to be called for every block. */
  show(what: string, done = 0, total = 0): void {
    if (!this.enabled) return;
    const now = performance.now();
    if (now - this.started < QUIET_MS || now - this.shown < STEP_MS) return;
    this.shown = now;
    this.drawn = true;
    const share = total > 0 ? ` ${Math.floor((100 * done) / total)} %` : '';
    const seconds = Math.floor((now - this.started) / 1000);
    process.stderr.write(`\r\x1b[Kext4d: ${what}${share} (${seconds} s)`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.drawn) process.stderr.write('\r\x1b[K');
    this.drawn = false;
  }
}
