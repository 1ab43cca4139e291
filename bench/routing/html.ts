import type { Report } from './report-schema.js';
export function drawHtml(report: Report): string {
  return JSON.stringify(report);
}
