/** Block devices by number, as journal_dev= names one: MAJOR:MINOR, or both in one number as the kernel encodes them. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError } from './command-error.js';

const DIGITS = /^(?:0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)$/i;

export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** Null for what is neither. One number is new_decode_dev's: eight bits of the minor, twelve of the major, the minor's rest. */
export function parseDeviceNumber(text: string): DeviceNumber | null {
  const pair = /^([0-9]{1,4}):([0-9]{1,7})$/.exec(text);
  if (pair !== null) {
    const [major, minor] = [Number(pair[1]), Number(pair[2])];
    return major <= 0xfff && minor <= 0xfffff ? { major, minor } : null;
  }
  if (!DIGITS.test(text)) return null;
  const number = /^0[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number(text);
  if (number > 0xffffffff) return null;
  return { major: (number >>> 8) & 0xfff, minor: (number & 0xff) | ((number >>> 12) & 0xfff00) };
}

/** MAJOR:MINOR, as mountinfo has it, of what stat(2) calls st_rdev: 12 bits of the one; 20 of the other, in two parts. */
export function deviceNumberText(rdev: number): string {
  return `${(rdev >> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >> 12) & 0xfff00)}`;
}

/** The node of a block device in /dev. Throws CommandError where there is none. */
export function blockDevicePath({ major, minor }: DeviceNumber, sys = '/sys/dev/block', dev = '/dev'): string {
  const facts = join(sys, `${major}:${minor}`, 'uevent');
  const name = existsSync(facts) ? /^DEVNAME=(.+)$/m.exec(readFileSync(facts, 'utf8'))?.[1] : undefined;
  if (name === undefined) throw new CommandError(`journal_dev=${major}:${minor}: there is no such block device`);
  return join(dev, name);
}
