/** The server serves uPlot beside the compiled files of this folder. */
import uPlot from 'uplot';

export default uPlot;
