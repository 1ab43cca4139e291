/*
 * To be imported before onnxruntime-node, which looks at it once. From 1.30 on ONNX Runtime on Linux and macOS reports
 * sessions to its maker, keeps an identifier of the machine in the user's cache folder, and leaves a log file of every
 * process in the temporary folder. Nobody asked for that: it is off unless the variable is set to 0.
 */
process.env.ORT_DISABLE_TELEMETRY ??= '1';
