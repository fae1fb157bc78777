"""XAI Atlas in the browser: ``streamlit run app.py``. The pages are in ``views/``."""

from __future__ import annotations

import streamlit as st

from views.common import sentences

st.set_page_config(page_title="XAI Atlas", page_icon=":material/travel_explore:", layout="wide")

page = st.navigation(
    [
        st.Page("views/ask.py", title="Ask", icon=":material/forum:", default=True),
        st.Page("views/explore.py", title="Explore", icon=":material/account_tree:", url_path="explore"),
        st.Page("views/run.py", title="Run", icon=":material/play_circle:", url_path="run"),
        st.Page("views/runs.py", title="Runs", icon=":material/history:", url_path="runs"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare:", url_path="compare"),
        st.Page("views/sanity.py", title="Sanity", icon=":material/science:", url_path="sanity"),
        st.Page("views/add.py", title="Add", icon=":material/library_add:", url_path="add"),
    ],
    position="top",
)
st.html("<style>.stMainBlockContainer {padding-top: 4.5rem; padding-bottom: 2rem}</style>")
st.query_params.update()  # links from a page to itself do not change the browser's address; sending it again does
with sentences():
    page.run()
st.caption(
    "XAI Atlas explains models for research and quality control. **Not for clinical use:** an explanation shows what a "
    "model reacts to, not what a patient has."
)
