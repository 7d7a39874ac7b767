/** When a server rehearses (src/fuse/rehearsal.ts): while nobody asks it for anything. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Rehearsal } from '../fuse/rehearsal.js';
import type { Session } from '../fuse/session.js';

/** Made by the build; without it there is no rehearsal. */
const STAGE = fileURLToPath(new URL('../../rehearsal.stage', import.meta.url));
const SLICE_MS = 2;
const PAUSE_MS = 20;

/** Rehearses in short slices, never while requests are coming in. Whatever goes wrong ends the rehearsal and nothing else. */
export function rehearseWhenIdle(session: Pick<Session, 'closing' | 'idleMs' | 'fs' | 'log'>, stage = STAGE): void {
  let rehearsal: Rehearsal | null = null;
  const play = () => {
    if (session.closing) return;
    if (session.idleMs < PAUSE_MS) {
      setTimeout(step, PAUSE_MS).unref();
      return;
    }
    if (rehearsal === null) {
      if (!existsSync(stage)) return;
      rehearsal = new Rehearsal(readFileSync(stage), session.fs);
    }
    if (rehearsal.step(SLICE_MS)) setImmediate(step);
    else rehearsal.end();
  };
  const step = () => {
    try {
      play();
    } catch (error) {
      session.log(`the first operations will be slow, there was no rehearsal: ${String(error)}`);
      rehearsal?.end();
    }
  };
  setTimeout(step, PAUSE_MS).unref();
}
