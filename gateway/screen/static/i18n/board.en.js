export default {
  "board.title": "Live calls",
};
