import { PROGRESS_QUANTILES, type Recording } from './recorder.ts';

interface Plot {
  readonly title: string;
  readonly yMax: number;
  readonly yUnit: string;
  readonly content: (x: (seconds: number) => number, y: (value: number) => number) => string;
}

const WIDTH = 720;
const PLOT_HEIGHT = 200;
const MARGIN = { left: 64, right: 16, top: 28, bottom: 28 };
const COLOR = '#2563eb';

/** One run as a drawing: nodes finished over time, what the origin sent, and how far nodes were. */
export function drawRun(title: string, recording: Recording, boundSeconds: number): string {
  const lastSeconds = recording.progress.at(-1)?.seconds ?? 0;
  const endSeconds = Math.max(boundSeconds, recording.doneSeconds.at(-1) ?? 0, lastSeconds) * 1.02;
  const plots = [completion(recording), originRate(recording), progressBands(recording)];
  const height = 32 + plots.length * (PLOT_HEIGHT + MARGIN.top + MARGIN.bottom);
  const drawn = plots.map((plot, index) => drawPlot(plot, { index, endSeconds, boundSeconds }));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="white"/>',
    text(MARGIN.left, 20, title, 'font-size="15"'),
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
}

function completion({ doneSeconds, nodeCount }: Recording): Plot {
  return {
    title: 'Nodes done',
    yMax: 100,
    yUnit: ' %',
    content: (x, y) => {
      const points = doneSeconds.map(
        (seconds, index) => [x(seconds), y(((index + 1) / nodeCount) * 100)] as const,
      );
      return line([[x(0), y(0)], ...points]);
    },
  };
}

function originRate({ originRates, binSeconds }: Recording): Plot {
  const rates = originRates.map((rate) => (rate ?? 0) / 1e6);
  return {
    title: 'Origin throughput',
    yMax: Math.max(1, ...rates) * 1.1,
    yUnit: ' MB/s',
    content: (x, y) =>
      rates
        .map((rate, bin) => {
          const left = x(bin * binSeconds);
          const size = `width="${fixed(x((bin + 1) * binSeconds) - left)}" height="${fixed(y(0) - y(rate))}"`;
          return `<rect x="${fixed(left)}" y="${fixed(y(rate))}" ${size} fill="${COLOR}"/>`;
        })
        .join(''),
  };
}

/** The middle line is the median node; the bands hold the middle half and nine tenths of all nodes. */
function progressBands({ progress }: Recording): Plot {
  return {
    title: `Progress of nodes (quantiles ${PROGRESS_QUANTILES.join(', ')})`,
    yMax: 100,
    yUnit: ' %',
    content: (x, y) => {
      const edge = (quantile: number) =>
        progress.map(({ seconds, quantiles }) => [x(seconds), y((quantiles[quantile] ?? 0) * 100)] as const);
      const band = (low: number, high: number, opacity: number) =>
        `<polygon points="${pairs([...edge(low), ...edge(high).reverse()])}" fill="${COLOR}" opacity="${opacity}"/>`;
      return band(0, 4, 0.2) + band(1, 3, 0.3) + line(edge(2));
    },
  };
}

function drawPlot(
  plot: Plot,
  { index, endSeconds, boundSeconds }: { index: number; endSeconds: number; boundSeconds: number },
): string {
  const top = 32 + index * (PLOT_HEIGHT + MARGIN.top + MARGIN.bottom) + MARGIN.top;
  const bottom = top + PLOT_HEIGHT;
  const right = WIDTH - MARGIN.right;
  const x = (seconds: number) => MARGIN.left + (seconds / endSeconds) * (right - MARGIN.left);
  const y = (value: number) => bottom - (value / plot.yMax) * PLOT_HEIGHT;
  return [
    text(MARGIN.left, top - 8, plot.title),
    ...[0, 0.5, 1].map((share) => {
      const value = plot.yMax * share;
      return text(MARGIN.left - 6, y(value) + 4, `${Math.round(value)}${plot.yUnit}`, 'text-anchor="end"');
    }),
    ...[0, 0.25, 0.5, 0.75, 1].map((share) =>
      text(
        x(endSeconds * share),
        bottom + 16,
        `${(endSeconds * share).toFixed(1)} s`,
        'text-anchor="middle"',
      ),
    ),
    `<rect x="${MARGIN.left}" y="${top}" width="${right - MARGIN.left}" height="${PLOT_HEIGHT}" fill="none" stroke="#999"/>`,
    plot.content(x, y),
    `<line x1="${fixed(x(boundSeconds))}" x2="${fixed(x(boundSeconds))}" y1="${top}" y2="${bottom}" stroke="#dc2626" stroke-dasharray="4 3"/>`,
    text(x(boundSeconds) - 4, top + 14, 'bound', 'fill="#dc2626" text-anchor="end"'),
  ].join('\n');
}

function line(points: readonly (readonly [number, number])[]): string {
  return `<polyline points="${pairs(points)}" fill="none" stroke="${COLOR}" stroke-width="1.5"/>`;
}

function pairs(points: readonly (readonly [number, number])[]): string {
  return points.map(([x, y]) => `${fixed(x)},${fixed(y)}`).join(' ');
}

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${fixed(x)}" y="${fixed(y)}" ${attributes}>${escaped}</text>`;
}

function fixed(value: number): string {
  return value.toFixed(1);
}
