"""An experiment sweep over model size x batch strategy: accuracy and cost of multilingual dense retrievers."""
