export default {
  "board.title": "实时通话",
};
