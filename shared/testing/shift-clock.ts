/**
 * Shifts the wall clock of this process. Preload it with `--import`, as `clockShiftedBy` does. `performance.now()` and
 * timers do not change, as on a machine whose clock was set wrongly before the process started.
 */
// biome-ignore lint/style/noProcessEnv: it runs before the settings are read.
const shiftMs = Number(process.env.CLOCK_SHIFT_SECONDS ?? 0) * 1000
const RealDate = Date

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shiftMs] : args, newTarget),
  apply: () => new RealDate(RealDate.now() + shiftMs).toString(),
  get: (target, name) => (name === 'now' ? () => RealDate.now() + shiftMs : Reflect.get(target, name)),
})
